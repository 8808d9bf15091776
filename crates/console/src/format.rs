//! How pages show times and texts of others.

use chrono::TimeDelta;
use larkauth_models::{Timestamp, text::one_line};

use crate::lang::Lang;

/// Longest text of others in a table, in characters.
const MAX: usize = 200;

/// A time as a page shows it: in UTC, which the page says once.
pub(crate) fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A text of another person or program, as one line that neither forges nor hides.
pub(crate) fn plain(text: &str) -> String {
    one_line(text, MAX)
}

/// A time, and how far it is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) at: String,
    pub(crate) distance: String,
    pub(crate) is_past: bool,
}

impl When {
    pub(crate) fn new(lang: Lang, now: Timestamp, at: Timestamp) -> Self {
        Self { at: time(at), distance: distance(lang, now, at), is_past: at <= now }
    }

    pub(crate) fn maybe(lang: Lang, now: Timestamp, at: Option<Timestamp>) -> Option<Self> {
        at.map(|at| Self::new(lang, now, at))
    }
}

/// Returns how far a time is away, in its largest unit.
fn distance(lang: Lang, now: Timestamp, at: Timestamp) -> String {
    let away = (at - now).abs();
    let (count, english, chinese) = match away {
        away if away >= TimeDelta::days(2) => (away.num_days(), "d", " 天"),
        away if away >= TimeDelta::hours(2) => (away.num_hours(), "h", " 小时"),
        away if away >= TimeDelta::minutes(2) => (away.num_minutes(), "min", " 分钟"),
        away => (away.num_seconds(), "s", " 秒"),
    };
    match (lang, at <= now) {
        (Lang::En, true) => format!("{count} {english} ago"),
        (Lang::En, false) => format!("in {count} {english}"),
        (Lang::Zh, true) => format!("{}前", format_args!("{count}{chinese}")),
        (Lang::Zh, false) => format!("{}后", format_args!("{count}{chinese}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_in_the_largest_unit() {
        let now = Timestamp::UNIX_EPOCH + TimeDelta::days(100);
        for (seconds, english, chinese) in [
            (0, "0 s ago", "0 秒前"),
            (-119, "119 s ago", "119 秒前"),
            (120, "in 2 min", "2 分钟后"),
            (7199, "in 119 min", "119 分钟后"),
            (-7200, "2 h ago", "2 小时前"),
            (365 * 86_400, "in 365 d", "365 天后"),
        ] {
            let at = now + TimeDelta::seconds(seconds);
            assert_eq!(
                (distance(Lang::En, now, at), distance(Lang::Zh, now, at)),
                (english.into(), chinese.into())
            );
        }
    }
}
