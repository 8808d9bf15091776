//! Who is asked.

use anyhow::bail;
use larkauth_auth::LarkSettings;
use larkauth_lark::LarkClient;
use larkauth_models::{Application, OpenId, SecretString};

use super::Arguments;
use crate::{doctor::page, exit::CommandError, platform, prompt, report};

/// From the arguments, or the person at the terminal; a mail address is looked up.
pub(super) async fn ask(
    arguments: &Arguments,
    lark: &LarkSettings,
    app: &Application,
    client: &LarkClient,
) -> anyhow::Result<OpenId> {
    if let Some(open_id) = &arguments.open_id {
        return Ok(open_id.clone());
    }
    if let Some(email) = &arguments.email {
        return by_mail(email, lark, app, client).await;
    }
    report::say("  Whom to ask? Your own open_id is in the API Explorer of the developer console.");
    let typed = prompt::meanwhile(|| prompt::line("  open_id (ou_…) or work mail address")).await?;
    if typed.contains('@') {
        return by_mail(&SecretString::from(typed), lark, app, client).await;
    }
    Ok(OpenId::new(typed).map_err(|error| CommandError::Usage(error.to_string()))?)
}

async fn by_mail(
    email: &SecretString,
    lark: &LarkSettings,
    app: &Application,
    client: &LarkClient,
) -> anyhow::Result<OpenId> {
    let base = &lark.endpoints(app.brand).base_url;
    let token = client.tenant_access_token().await?;
    let found = platform::open_id_of(&lark.http, base, &token, email).await.map_err(|error| {
        let cure = if error.is_missing_permission() {
            format!("add the permission contact:user.id:readonly, see {}", page::PERMISSIONS)
        } else {
            "try again later".to_owned()
        };
        anyhow::Error::new(error)
            .context(format!("the mail address cannot be looked up: {cure}; or give --open-id instead"))
    })?;
    let Some(open_id) = found else {
        bail!("nobody with this work mail address is within the application's range; see {}", page::PERSON);
    };
    report::done("the person is found", open_id.as_str());
    Ok(open_id)
}
