//! The application itself, as Lark knows it.

use super::{
    client::LarkClient,
    spec::{Api, Repeat},
};
use crate::{error::LarkError, lenient::Fields};

const BOT_INFO: Api = Api::lark("bot_info");

impl LarkClient {
    /// Returns the name of the application's bot, which is what people see in the chat. Needs no permission.
    ///
    /// # Errors
    /// When Lark refuses the application, or it has no bot.
    pub async fn bot_name(&self) -> Result<String, LarkError> {
        let url = self.api_url("/open-apis/bot/v3/info");
        let build = || self.options().http.get(url.clone());
        let read = |answer: &Fields| answer.object("bot")?.text("app_name");
        self.call_as_tenant(BOT_INFO, Repeat::Safe, build, read).await
    }
}
