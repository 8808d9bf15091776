//! Where values come from: the environment, then the file; a secret also from a file of its own.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    path::Path,
};

use larkauth_models::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    ConfigError,
    parse::{Refusal, shown},
    table::{DefaultValue, SETTINGS, Setting},
};

/// Variables that begin so are probably meant for us.
const PREFIXES: &[&str] = &["WEBSOCKET_", "AUTH_", "USER_INFO_SYNC_", "LARK_", "OAUTH_", "ENCRYPTION_"];
/// Longest content of a file that holds a secret, or of the settings file, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// A value and what to call it in an error.
struct Given {
    text: SecretString,
    label: String,
}

/// All values that were given.
pub(crate) struct Source {
    given: BTreeMap<&'static str, Given>,
    /// Variables that look like a misspelled setting.
    pub(crate) warnings: Vec<String>,
}

impl Source {
    /// Puts the environment over the file.
    pub(crate) fn new(
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut given = match file {
            Some(path) => collect(from_toml(path)?, &format!(" in {}", path.display()))?,
            None => BTreeMap::new(),
        };
        let (ours, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            environment.into_iter().partition(|(name, _)| is_known(name));
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

    /// Whether a setting was given at all.
    pub(crate) fn has(&self, setting: &Setting) -> bool {
        self.given.contains_key(setting.name)
    }

    /// Reads a setting, or its fixed default; `None` when there is neither.
    pub(crate) fn get<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, ConfigError> {
        let (text, label) = match (self.given.get(setting.name), setting.default) {
            (Some(given), _) => (given.text.expose_secret(), given.label.as_str()),
            (None, DefaultValue::Fixed(text)) => (text, setting.name),
            (None, DefaultValue::None | DefaultValue::Varies(_)) => return Ok(None),
        };
        let text = if setting.secret { text } else { text.trim() };
        parse(text).map(Some).map_err(|refusal| {
            let value = if setting.secret { "the value".to_owned() } else { shown(text) };
            ConfigError::Invalid {
                name: label.to_owned(),
                problem: format!("{value} {}", refusal.problem),
                cure: refusal.cure,
            }
        })
    }

    /// Reads a setting that must be there or have a fixed default.
    pub(crate) fn need<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Result<T, ConfigError> {
        self.get(setting, parse)?
            .ok_or_else(|| ConfigError::Missing { name: setting.name, cure: "give it a value".into() })
    }
}

/// Whether a variable is a setting, or names the file of one.
pub(crate) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Every spelling that is read.
fn names() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(|setting| {
        [Some(setting.name.to_owned()), setting.secret.then(|| file_name(setting))].into_iter().flatten()
    })
}

fn file_name(setting: &Setting) -> String {
    format!("{}_FILE", setting.name)
}

/// Picks the settings out of one origin; `place` says in errors which one.
fn collect(
    mut values: BTreeMap<String, String>,
    place: &str,
) -> Result<BTreeMap<&'static str, Given>, ConfigError> {
    // Compose files and the like pass a variable that is not set on as an empty one.
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
                    problem: format!("both it and {} are set", file_name(setting)),
                    cure: "keep one of them".into(),
                });
            }
        };
        given.insert(setting.name, Given { text: text.into(), label: format!("{name}{place}") });
    }
    Ok(given)
}

/// The content of a file, without one newline at its end.
fn read_secret(name: &str, path: &str) -> Result<String, ConfigError> {
    let mut text =
        read(name, Path::new(path), "give the path of a readable text file that holds the secret")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(ConfigError::Invalid {
            name: name.to_owned(),
            problem: "the file is empty".into(),
            cure: "write the secret into it".into(),
        });
    }
    Ok(std::mem::take(&mut *text))
}

fn read(name: &str, path: &Path, cure: &'static str) -> Result<Zeroizing<String>, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable {
        name: name.to_owned(),
        path: path.display().to_string(),
        problem,
        cure,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(words(&error)))?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| unreadable(words(&error)))?;
    if text.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// The system's words, of which the commonest ones are for programmers.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::InvalidData => "it is not text".to_owned(),
        kind => kind.to_string(),
    }
}

/// Reads the settings file. Its errors give the line number and never its text, which may be a secret.
fn from_toml(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = read("--config", path, "give the path of a readable TOML file")?;
    let refuse = |line, problem: String, cure: String| ConfigError::File {
        file: path.display().to_string(),
        line,
        problem,
        cure,
    };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
        refuse(line, "this is not valid TOML".into(), "write lines like `app_id = \"cli_…\"`".into())
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let name = key.to_ascii_uppercase();
        if !is_known(&name) {
            let cure = match closest(&name) {
                Some(near) => format!("did you mean `{}`?", near.to_ascii_lowercase()),
                None => "take it out".into(),
            };
            return Err(refuse(None, format!("unknown setting {}", shown(&key)), cure));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(switch) => switch.to_string(),
            _ => {
                return Err(refuse(
                    None,
                    format!("`{key}` is a list, a table or a date"),
                    "write a text, a number, true or false".into(),
                ));
            }
        };
        if values.insert(name, value).is_some() {
            return Err(refuse(None, format!("`{key}` is there twice"), "keep one of them".into()));
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
