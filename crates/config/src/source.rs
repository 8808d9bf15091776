//! Sources of values: the environment overrides the settings file; a secret may also come from a separate file.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    path::Path,
};

use larkauth_models::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    ConfigError,
    parse::{ParseError, shown},
    schema::{DefaultValue, SETTINGS, Setting},
};

/// Prefixes of variables that are probably settings of this product.
const PREFIXES: &[&str] = &[
    "WEBSOCKET_",
    "AUTH_",
    "USER_INFO_SYNC_",
    "REAUTHORIZE_",
    "LARK_",
    "OAUTH_",
    "ENCRYPTION_",
    "EVENT_RELAY_",
];
/// Settings that other programs read too, in upper or lower case.
const IN_EITHER_CASE: &[&str] = &["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];
/// Byte order mark, which some editors write at the start of a file. In an env file it becomes part of the first name.
const BOM: char = '\u{feff}';
/// Maximum size of the settings file and of the file of a secret, in bytes; larger files are a mistake.
const MAX_FILE: u64 = 256 * 1024;

/// A value and its name in an error.
struct Given {
    text: SecretString,
    label: String,
}

/// All given values.
pub(crate) struct Source {
    given: BTreeMap<&'static str, Given>,
    /// Variables that look like a misspelled setting.
    pub(crate) warnings: Vec<String>,
}

impl Source {
    /// Reads the file and overrides it by the environment.
    pub(crate) fn new(
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut given = match file {
            Some(path) => collect(from_toml(path)?, &format!(" in {}", path.display()))?,
            None => BTreeMap::new(),
        };
        let (mut ours, mut others): (BTreeMap<_, _>, BTreeMap<_, _>) = environment
            .into_iter()
            .map(|(name, value)| (name.trim_start_matches(BOM).to_owned(), one_line(value)))
            .partition(|(name, _)| is_known(name));
        for name in IN_EITHER_CASE {
            if let Some(value) = others.remove(&name.to_ascii_lowercase())
                && ours.get(*name).is_none_or(String::is_empty)
            {
                ours.insert((*name).to_owned(), value);
            }
        }
        given.extend(collect(ours, "")?);
        let warnings = others
            .keys()
            .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .filter_map(|name| {
                Some(format!("{} is not a setting; did you mean {}?", shown(name), closest(name)?))
            })
            .collect();
        Ok(Self { given, warnings })
    }

    /// Returns true when the setting was given.
    pub(crate) fn has(&self, setting: &Setting) -> bool {
        self.given.contains_key(setting.name)
    }

    /// Parses a setting or its fixed default; `None` when there is neither.
    pub(crate) fn get<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ConfigError> {
        let (text, label) = match (self.given.get(setting.name), setting.default) {
            (Some(given), _) => (given.text.expose_secret(), given.label.as_str()),
            (None, DefaultValue::Fixed(text)) => (text, setting.name),
            (None, DefaultValue::None | DefaultValue::Varies(_)) => return Ok(None),
        };
        let text = if setting.secret { text } else { text.trim() };
        parse(text).map(Some).map_err(|error| {
            let value = if setting.secret { "the value".to_owned() } else { shown(text) };
            ConfigError::Invalid {
                name: label.to_owned(),
                problem: format!("{value} {}", error.problem),
                cure: error.cure,
            }
        })
    }

    /// Parses a setting that must be given or have a fixed default.
    pub(crate) fn require<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, ParseError>,
    ) -> Result<T, ConfigError> {
        self.get(setting, parse)?
            .ok_or_else(|| ConfigError::Missing { name: setting.name, cure: "give it a value".into() })
    }
}

/// Returns true when the variable is a setting, or the file variable of a secret.
pub(crate) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Returns the name of every variable that is read.
fn names() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(|setting| {
        [Some(setting.name.to_owned()), setting.secret.then(|| file_name(setting))].into_iter().flatten()
    })
}

fn file_name(setting: &Setting) -> String {
    format!("{}_FILE", setting.name)
}

/// Collects the settings of one source; `place` names the source in errors.
fn collect(
    mut values: BTreeMap<String, String>,
    place: &str,
) -> Result<BTreeMap<&'static str, Given>, ConfigError> {
    // Compose files pass an unset variable as an empty one.
    values.retain(|_, value| !value.is_empty());
    let mut given = BTreeMap::new();
    for setting in SETTINGS {
        let direct = values.remove(setting.name);
        let path = if setting.secret { values.remove(&file_name(setting)) } else { None };
        let (text, name) = match (direct, path) {
            (None, None) => continue,
            (Some(text), None) => (text, setting.name.to_owned()),
            (None, Some(path)) => {
                let name = file_name(setting);
                (read_secret(&format!("{name}{place}"), &path)?, name)
            }
            (Some(_), Some(_)) => {
                return Err(ConfigError::Invalid {
                    name: format!("{}{place}", setting.name),
                    problem: format!("{} is set too", file_name(setting)),
                    cure: "remove one of them".into(),
                });
            }
        };
        given.insert(setting.name, Given { text: text.into(), label: format!("{name}{place}") });
    }
    Ok(given)
}

/// Returns a value without what a file with a byte order mark or with CRLF leaves at its ends.
fn one_line(mut value: String) -> String {
    value.truncate(value.trim_end_matches(['\r', '\n']).len());
    match value.strip_prefix(BOM) {
        Some(rest) => rest.to_owned(),
        None => value,
    }
}

/// Returns the content of a file without a byte order mark and without newlines at the end.
fn read_secret(name: &str, path: &str) -> Result<String, ConfigError> {
    let mut text =
        read(name, Path::new(path), "give the path of a readable text file that holds the secret")?;
    let text = Zeroizing::new(one_line(std::mem::take(&mut *text)));
    if text.is_empty() {
        return Err(ConfigError::Invalid {
            name: name.to_owned(),
            problem: "the file is empty".into(),
            cure: "write the secret into it".into(),
        });
    }
    Ok((*text).clone())
}

fn read(name: &str, path: &Path, cure: &'static str) -> Result<Zeroizing<String>, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable {
        name: name.to_owned(),
        path: path.display().to_string(),
        problem,
        cure,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(reason(&error)))?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| unreadable(reason(&error)))?;
    if text.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// Returns the reason of the operating system, in plain language for the most common ones.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        kind => kind.to_string(),
    }
}

/// Reads the settings file. Errors contain the line number, never the text, which may be a secret.
fn from_toml(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = read("--config", path, "give the path of a readable TOML file")?;
    let invalid = |line, problem: String, cure: String| ConfigError::File {
        file: path.display().to_string(),
        line,
        problem,
        cure,
    };
    let text = text.trim_start_matches(BOM);
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
        invalid(line, "this is not valid TOML".into(), "write lines like `app_id = \"cli_…\"`".into())
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let name = key.to_ascii_uppercase();
        if !is_known(&name) {
            let cure = match closest(&name) {
                Some(near) => format!("did you mean `{}`?", near.to_ascii_lowercase()),
                None => "remove it".into(),
            };
            return Err(invalid(None, format!("unknown setting {}", shown(&key)), cure));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(switch) => switch.to_string(),
            _ => {
                return Err(invalid(
                    None,
                    format!("`{key}` is a list, a table or a date"),
                    "write a text, a number, true or false".into(),
                ));
            }
        };
        if values.insert(name, value).is_some() {
            return Err(invalid(None, format!("`{key}` occurs twice"), "remove one of them".into()));
        }
    }
    Ok(values)
}

/// Largest number of edits after which a name still counts as a misspelling of a known one.
const MAX_DISTANCE: usize = 3;

/// Returns the known name with the smallest Levenshtein distance, or `None` when that exceeds [`MAX_DISTANCE`].
fn closest(name: &str) -> Option<String> {
    names()
        .map(|known| (strsim::levenshtein(name, &known), known))
        .filter(|(far, _)| *far <= MAX_DISTANCE)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn closest_of_misspelled_name_returns_the_known_name() {
        assert_eq!(closest("HTTP_ADRR").as_deref(), Some("HTTP_ADDR"));
        assert_eq!(closest("DATABASE_URI").as_deref(), Some("DATABASE_URL"));
        assert_eq!(closest("HTTP_ADDR").as_deref(), Some("HTTP_ADDR"));
    }

    #[test]
    fn closest_of_distant_name_returns_none() {
        assert_eq!(closest(""), None);
        assert_eq!(closest("SOMETHING_ELSE"), None);
    }
}
