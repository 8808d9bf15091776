//! The arguments of `larkauth try`.

use std::path::PathBuf;

use larkauth_models::{AppId, Brand, OpenId, SecretString};
use url::Url;

/// Try it out with a real application: from its secret to the first stored token
///
/// Asks for what is not given, checks each step and says what to do when one fails. Runs everything in this process
/// on the data folder (or DATABASE_URL and AMQP_URL); what is stored remains for `larkauth standalone`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth try\n  larkauth try --app cli_0123456789abcdef --secret-file secret.txt --email me@example.com --yes\n  APP_ID=cli_0123456789abcdef APP_SECRET_FILE=secret.txt larkauth try --open-id ou_0123456789abcdef"
)]
pub(crate) struct Arguments {
    /// The application; APP_ID by default
    #[arg(long, value_name = "APP_ID")]
    pub(super) app: Option<AppId>,
    /// A file that holds its secret, `-` for standard input; APP_SECRET by default
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
    /// The cloud of the application: `feishu` or `lark`
    #[arg(long)]
    pub(super) brand: Option<Brand>,
    /// Where the browser comes back to; OAUTH_REDIRECT_URI by default
    #[arg(long, value_name = "URI")]
    pub(super) redirect_uri: Option<Url>,
    /// The person to ask, as this application sees them
    #[arg(long, value_name = "OPEN_ID")]
    pub(super) open_id: Option<OpenId>,
    /// The person to ask, by work mail address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "open_id")]
    pub(super) email: Option<SecretString>,
    /// Where to keep everything; DATA_DIR by default
    #[arg(long, value_name = "FOLDER")]
    pub(super) data_dir: Option<PathBuf>,
    /// Seconds to wait for the person
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(super) wait: u64,
    /// Assume that the developer console is set up as described, instead of waiting for Enter
    #[arg(long)]
    pub(super) yes: bool,
}
