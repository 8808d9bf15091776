use larkauth_models::AppId;

/// An entry of a list to choose from.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) text: String,
    pub(super) is_chosen: bool,
}

impl Choice {
    pub(super) fn new(value: &str, text: impl Into<String>, chosen: Option<&str>) -> Self {
        Self { value: value.to_owned(), text: text.into(), is_chosen: chosen.unwrap_or_default() == value }
    }

    /// Returns one entry per application.
    pub(super) fn of_apps(apps: &[AppId], chosen: Option<&str>) -> Vec<Self> {
        apps.iter().map(|app| Self::new(app.as_str(), app.as_str(), chosen)).collect()
    }
}
