//! Texts of other people and programs, such as names, made fit to be shown.

/// Returns whether a character shows what it is: no control character, no line separator, and none that is invisible or
/// changes the direction of writing, by which a text could pass for another one. The joiners of emoji and of some scripts
/// are permitted.
#[must_use]
pub fn is_plain(c: char) -> bool {
    match c {
        // Joiners inside words and emoji.
        '\u{200c}' | '\u{200d}' => true,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator, Hangul fillers.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        // Spaces of no width, marks and embeddings of direction, separators of lines, isolates, byte order mark, annotations.
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}' => false,
        // Tags and private planes.
        '\u{e0000}'..='\u{10ffff}' => false,
        c => !c.is_control(),
    }
}

/// Returns a text as one line of at most so many characters, for a place that shows it: control characters and separators
/// become spaces, other characters that are not plain are left out. A text that was cut ends with `…`.
#[must_use]
pub fn one_line(text: &str, at_most: usize) -> String {
    let is_space = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut shown = text.chars().filter_map(|c| match c {
        c if is_space(c) => Some(' '),
        c => is_plain(c).then_some(c),
    });
    let mut line: String = shown.by_ref().take(at_most).collect();
    if shown.next().is_some() {
        line.push('…');
    }
    line
}

/// Returns a name as it is kept: one line of at most 100 characters without spaces around it. `None` when nothing is left.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    const MAX: usize = 100;
    let line = one_line(text.trim(), MAX);
    let name = line.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_removes_what_forges_or_hides() {
        for (text, shown) in [
            ("李雷", "李雷"),
            ("a\tb\r\nc", "a b  c"),
            ("a\u{1b}[2Jb", "a [2Jb"),
            ("gnp.\u{202e}exe", "gnp.exe"),
            ("a\u{2066}b\u{2069}\u{200e}\u{61c}", "ab"),
            ("a\u{200b}\u{feff}\u{e0041}b", "ab"),
            ("a\u{2028}b\u{85}c\0", "a b c "),
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
            ("مرحبا", "مرحبا"),
        ] {
            assert_eq!(one_line(text, 50), shown, "{text:?}");
        }
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc\u{202e}", 3), "abc");
    }

    #[test]
    fn name_of_hostile_text_is_short_or_nothing() {
        assert_eq!(name(" Li\0 Lei\n").as_deref(), Some("Li  Lei"));
        assert_eq!(name("\u{200b}\u{202e}\n"), None);
        assert_eq!(name(""), None);
        assert_eq!(name(&"x".repeat(100_000)).unwrap().chars().count(), 101);
        assert_eq!(name(&"e\u{301}".repeat(500)).unwrap().chars().count(), 101);
    }
}
