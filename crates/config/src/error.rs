/// Why the settings cannot be used: one line that names the setting, what is wrong, and the cure.
///
/// Values of secret settings, and addresses that may hold a password, are never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting that this service needs is not there.
    #[error("{name} is not set; {cure}")]
    Missing {
        /// The setting.
        name: &'static str,
        /// What to do.
        cure: String,
    },
    /// A setting's value cannot be used.
    #[error("{name}: {problem}; {cure}")]
    Invalid {
        /// The setting, as it was spelled where it was given.
        name: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        cure: String,
    },
    /// The settings file, or a file that holds one secret, cannot be read.
    #[error("{name}: cannot read `{path}` ({problem}); {cure}")]
    Unreadable {
        /// The setting or option that names the file.
        name: String,
        /// The file.
        path: String,
        /// The system's reason.
        problem: String,
        /// What to do.
        cure: &'static str,
    },
    /// The settings file is not TOML, or not of the expected form.
    #[error("{file}{}: {problem}; {cure}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// The file.
        file: String,
        /// Where, counted from 1.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
        /// What to do.
        cure: String,
    },
}
