/// Error in the settings: one line that names the setting, the problem and the cure.
///
/// Never contains the value of a secret setting, or an address that may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required setting is missing.
    #[error("{name} is not set; {cure}")]
    Missing {
        /// Setting.
        name: &'static str,
        /// Cure.
        cure: String,
    },
    /// The value of a setting is invalid.
    #[error("{name}: {problem}; {cure}")]
    Invalid {
        /// Setting, as spelled in its source.
        name: String,
        /// Problem.
        problem: String,
        /// Cure.
        cure: String,
    },
    /// The settings file, or the file of a secret, cannot be read.
    #[error("{name}: cannot read `{path}` ({problem}); {cure}")]
    Unreadable {
        /// Setting or option that names the file.
        name: String,
        /// File.
        path: String,
        /// Reason of the operating system.
        problem: String,
        /// Cure.
        cure: &'static str,
    },
    /// The settings file is not TOML, or not of the expected form.
    #[error("{file}{}: {problem}; {cure}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// File.
        file: String,
        /// Line, counted from 1.
        line: Option<usize>,
        /// Problem.
        problem: String,
        /// Cure.
        cure: String,
    },
}
