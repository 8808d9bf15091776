use axum::http::{HeaderMap, header};

use crate::cookie;

/// Language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lang {
    En,
    Zh,
}

impl Lang {
    /// Returns the chosen language, else the one that the browser prefers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let chosen = cookie::language(headers).and_then(Self::from_tag);
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        chosen.unwrap_or_else(|| Self::preferred(accepted.unwrap_or_default()))
    }

    pub(crate) fn from_tag(tag: &str) -> Option<Self> {
        match tag {
            "en" => Some(Self::En),
            "zh-CN" => Some(Self::Zh),
            _ => None,
        }
    }

    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// Returns the text in this language.
    pub(crate) const fn t(self, english: &'static str, chinese: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => chinese,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::En => Self::Zh,
            Self::Zh => Self::En,
        }
    }

    /// Returns its own name.
    pub(crate) const fn name(self) -> &'static str {
        self.t("English", "中文")
    }

    /// Returns Chinese when the browser prefers it to English, else English.
    fn preferred(accept_language: &str) -> Self {
        let mut best = (Self::En, 0.0);
        for range in accept_language.split(',').take(20) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok());
            let lang = match tag.split('-').next() {
                Some("zh") => Self::Zh,
                Some("en") => Self::En,
                _ => continue,
            };
            if quality.unwrap_or(1.0) > best.1 {
                best = (lang, quality.unwrap_or(1.0));
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn of_chosen_language_outweighs_accept_language() {
        let lang = |accept: &'static str, cookie: &'static str| {
            Lang::of(&HeaderMap::from_iter([
                (header::ACCEPT_LANGUAGE, HeaderValue::from_static(accept)),
                (header::COOKIE, HeaderValue::from_static(cookie)),
            ]))
        };
        for (accept, cookie, expected) in [
            ("", "", Lang::En),
            ("zh-CN,zh;q=0.9", "", Lang::Zh),
            ("fr, zh;q=0.8, en;q=0.5", "", Lang::Zh),
            ("en-GB;q=0.9, zh-TW;q=0.8", "", Lang::En),
            ("zh;q=0", "", Lang::En),
            ("zh-CN", "larkauth_console_language=en", Lang::En),
            ("en", "larkauth_console_language=zh-CN", Lang::Zh),
            ("zh", "larkauth_console_language=<script>", Lang::Zh),
        ] {
            assert_eq!(lang(accept, cookie), expected, "{accept} {cookie}");
        }
    }
}
