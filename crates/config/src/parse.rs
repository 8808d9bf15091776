//! Parses one text into a typed value. An error has the problem and the cure; `source` adds the name and, unless secret, the value.

use std::{borrow::Cow, fmt::Display, str::FromStr, time::Duration};

use larkauth_models::{SecretString, text::is_plain};
use larkauth_net::ProxyUrl;
use url::Url;

/// Error in a value: the text that follows the value in the message, and the cure.
pub(crate) struct ParseError {
    pub(crate) problem: String,
    pub(crate) cure: String,
}

pub(crate) fn parse_error<T>(problem: impl Into<String>, cure: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError { problem: problem.into(), cure: cure.into() })
}

/// Returns a value as one short line for an error. An address that may contain a password is not shown.
pub(crate) fn shown(text: &str) -> String {
    if text.contains('@') {
        return "the value".into();
    }
    let short: String = text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

pub(crate) fn switch(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => parse_error("is neither yes nor no", "write `true` or `false`"),
    }
}

pub(crate) fn number<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, ParseError>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        Ok(_) => parse_error("is out of range", format!("give a number from {least} to {most}")),
        Err(_) => parse_error("is not a valid number", format!("give a number from {least} to {most}")),
    }
}

pub(crate) fn seconds(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, ParseError> {
    move |text| match number(least, most)(text) {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(error) => parse_error(error.problem, format!("give whole seconds, from {least} to {most}")),
    }
}

pub(crate) fn days(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, ParseError> {
    move |text| match number(least, most)(text) {
        Ok(days) => Ok(Duration::from_secs(days * 24 * 3600)),
        Err(error) => parse_error(error.problem, format!("give whole days, from {least} to {most}")),
    }
}

/// Parses one of the fixed spellings of a type.
pub(crate) fn one_of<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, ParseError> {
    move |text| match choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            parse_error("is not a known choice", format!("write {}", names.join(" or ")))
        }
    }
}

/// Parses an address that paths are appended to.
pub(crate) fn base_url(text: &str) -> Result<Url, ParseError> {
    const CURE: &str = "give an address like `https://host` or `http://host:port`";
    let url = web_url(text, CURE)?;
    if url.query().is_some() || url.fragment().is_some() {
        return parse_error("has a query or fragment", CURE);
    }
    Ok(url)
}

/// Parses the address of the redirect after consent.
pub(crate) fn redirect_uri(text: &str) -> Result<Url, ParseError> {
    const CURE: &str = "give an absolute address like `https://host/oauth/callback`";
    let url = web_url(text, CURE)?;
    if url.fragment().is_some() {
        return parse_error("has a fragment, which OAuth forbids", CURE);
    }
    Ok(url)
}

fn web_url(text: &str, cure: &str) -> Result<Url, ParseError> {
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            parse_error("is not an http or https address", cure)
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            parse_error("holds a user name or password", cure)
        }
        Ok(url) => Ok(url),
        Err(_) => parse_error("is not an address", cure),
    }
}

/// Parses the address of a database or a broker, which contains a password.
pub(crate) fn service_url(
    schemes: &'static [&'static str],
    example: &'static str,
) -> impl Fn(&str) -> Result<SecretString, ParseError> {
    move |text| {
        let cure = format!("give an address like `{example}`");
        let Some((scheme, _)) = text.split_once(':') else { return parse_error("is not an address", cure) };
        if !schemes.contains(&scheme.to_ascii_lowercase().as_str()) {
            return parse_error("has a scheme that is not supported here", cure);
        }
        if names_several_hosts(text) {
            return parse_error(
                "names several hosts, which is not supported",
                "give one host: that of the primary server, or of a proxy that leads to it",
            );
        }
        match Url::parse(text) {
            // The host is optional: PostgreSQL can be reached over a socket.
            Ok(url) if !url.cannot_be_a_base() => Ok(text.into()),
            Ok(_) => parse_error("has no `//` behind its scheme", cure),
            Err(_) => parse_error(
                "is not an address",
                format!("{cure}, and percent-encode special characters in user and password"),
            ),
        }
    }
}

/// Returns whether an address has a list of hosts, as libpq allows in the authority and in a parameter.
fn names_several_hosts(text: &str) -> bool {
    let rest = text.split_once("//").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    let is_list = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
        matches!(&*name, "host" | "hostaddr" | "port") && value.contains(',')
    };
    hosts.contains(',') || parameters(text).any(is_list)
}

/// Returns the parameters of an address.
pub(crate) fn parameters(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let query = text.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.split('#').next().unwrap_or_default().as_bytes())
}

/// Parses the address of an HTTP proxy.
pub(crate) fn proxy(text: &str) -> Result<ProxyUrl, ParseError> {
    ProxyUrl::parse(text).map_err(|error| ParseError {
        problem: error.to_string(),
        cure: "give an HTTP proxy like `http://user:password@host:port`, or remove the variable".to_owned(),
    })
}

pub(crate) fn secret(min_chars: usize) -> impl Fn(&str) -> Result<SecretString, ParseError> {
    move |text| {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            parse_error("holds a space or a line break", "give the secret alone, on one line")
        } else if text.chars().count() < min_chars {
            parse_error("is too short", format!("give at least {min_chars} characters"))
        } else {
            Ok(text.into())
        }
    }
}

/// Words of placeholders in documentation and templates.
const PLACEHOLDERS: [&str; 8] =
    ["at-least-16", "change-me", "changeme", "change_me", "replace", "placeholder", "your-", "example"];

/// Parses the bootstrap API key, which must be a secret and no placeholder.
pub(crate) fn api_key(text: &str) -> Result<SecretString, ParseError> {
    let key = secret(16)(text)?;
    let lower = text.to_ascii_lowercase();
    let characters: std::collections::HashSet<char> = lower.chars().collect();
    if characters.len() < 6 || PLACEHOLDERS.iter().any(|word| lower.contains(word)) {
        return parse_error("is a placeholder", "make a key of your own: `openssl rand -hex 24`");
    }
    Ok(key)
}

/// Parses a short name of letters, digits, `_-` and the characters of `extra`.
pub(crate) fn name(max: usize, extra: &'static str) -> impl Fn(&str) -> Result<String, ParseError> {
    move |text| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || extra.contains(c);
        if text.is_empty() || text.len() > max || !text.chars().all(fits) {
            parse_error("is not a plain name", format!("use 1 to {max} letters, digits or `_-{extra}`"))
        } else {
            Ok(text.to_owned())
        }
    }
}

/// Parses one line of any text.
pub(crate) fn line(max: usize) -> impl Fn(&str) -> Result<String, ParseError> {
    move |text| {
        if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
            parse_error("is not a short line of text", format!("use 1 to {max} characters"))
        } else {
            Ok(text.to_owned())
        }
    }
}

/// Parses one line of text that people read.
pub(crate) fn visible_line(max: usize) -> impl Fn(&str) -> Result<String, ParseError> {
    move |text| {
        let line = line(max)(text)?;
        let is_seen = |c: char| is_plain(c) && !c.is_whitespace() && !is_joiner(c);
        if !line.chars().any(is_seen) {
            return parse_error("shows nothing", "use a name with at least one visible character");
        }
        Ok(line)
    }
}

/// Returns whether a character only joins those around it.
const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Parses scopes of RFC 6749, separated by spaces; Lark accepts at most 50.
pub(crate) fn scopes(text: &str) -> Result<Vec<String>, ParseError> {
    let scopes: Vec<String> = text.split_ascii_whitespace().map(ToOwned::to_owned).collect();
    if scopes.iter().any(|scope| !scope.bytes().all(|b| b.is_ascii_graphic() && !b",;\"\\".contains(&b))) {
        parse_error(
            "holds a character that no scope has",
            "separate scopes by spaces, like `offline_access im:message`",
        )
    } else if scopes.is_empty() || scopes.len() > 50 {
        parse_error("has no scope or more than 50", "give 1 to 50 scopes, separated by spaces")
    } else {
        Ok(scopes)
    }
}
