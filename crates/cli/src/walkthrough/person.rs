//! The person who is asked.

use anyhow::bail;
use larkauth_lark::{LarkClient, error::ErrorKind};
use larkauth_models::{OpenId, SecretString};

use super::arguments::Arguments;
use crate::{doctor::page, exit::CommandError, prompt, report};

/// Reads the person from the arguments or the terminal. A mail address is looked up.
pub(super) async fn ask(arguments: &Arguments, client: &LarkClient) -> anyhow::Result<OpenId> {
    if let Some(open_id) = &arguments.open_id {
        report::done("the person is named", open_id.as_str());
        return Ok(open_id.clone());
    }
    if let Some(email) = &arguments.email {
        return by_mail(email, client).await;
    }
    report::say(
        "  Name the person to ask. Your own open_id is in the API Explorer of the developer console.",
    );
    let typed = prompt::meanwhile(|| prompt::line("  open_id (ou_…) or work mail address")).await?;
    if typed.contains('@') {
        return by_mail(&SecretString::from(typed), client).await;
    }
    Ok(OpenId::new(typed).map_err(|error| CommandError::Usage(error.to_string()))?)
}

async fn by_mail(email: &SecretString, client: &LarkClient) -> anyhow::Result<OpenId> {
    let found = client.open_id_by_email(email).await.map_err(|error| {
        let cure = match error.kind {
            ErrorKind::InsufficientScope { .. } => {
                format!("add the permission contact:user.id:readonly, see {}", page::PERMISSIONS)
            }
            _ => "try again later".to_owned(),
        };
        anyhow::Error::new(error)
            .context(format!("the mail address cannot be looked up: {cure}; or give --open-id instead"))
    })?;
    let Some(open_id) = found else {
        bail!(
            "no person with this work mail address is within the application's range; see {}",
            page::PERSON
        );
    };
    report::done("the person is found", open_id.as_str());
    Ok(open_id)
}
