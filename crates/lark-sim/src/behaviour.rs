//! Reactions of people without a driver.

use url::Url;

use crate::{
    error::SimError, rules::devices::PAGE_PATH, sim::Sim, state::messages::Message, users::Behaviour,
};

/// Maximum number of tasks of simulated people. More of them would only queue up at the application.
const MAX_TASKS: usize = 10_000;

/// Starts the behaviour of the receiver of a new card.
pub(crate) fn react(sim: &Sim, message: Message) {
    if sim.tasks().len() >= MAX_TASKS {
        return;
    }
    let driver = sim.clone();
    sim.spawn(async move {
        let Ok(person) = driver.person(&message.open_id) else { return };
        let behaviour = person.behaviour.unwrap_or_else(|| driver.config().behaviour.clone());
        if behaviour == Behaviour::Manual {
            return;
        }
        driver.wait(driver.config().reaction).await;
        if let Err(error) = act(&driver, &message, &behaviour).await {
            tracing::debug!(%error, "sim.behaviour.failed");
        }
    });
}

async fn act(sim: &Sim, message: &Message, behaviour: &Behaviour) -> Result<(), SimError> {
    let buttons = message.buttons();
    if buttons.is_empty() {
        return Ok(());
    }
    let wants_link = *behaviour != Behaviour::Cancel;
    let button =
        buttons.into_iter().find(|button| button.url.is_some() == wants_link).ok_or(SimError::NoButton)?;
    let url = button.url.clone();
    sim.press(message.clone(), button, &message.open_id).await?;
    let Some(url) = url else { return Ok(()) };
    if let Some(user_code) = user_code(&url) {
        let person = match behaviour {
            Behaviour::Decline => None,
            Behaviour::ConsentAs(other) => Some(other.as_str()),
            Behaviour::Manual | Behaviour::Consent | Behaviour::Cancel => Some(message.open_id.as_str()),
        };
        return sim.decide_device(&user_code, person).map(drop);
    }
    let redirect = match behaviour {
        Behaviour::Decline => sim.decline(&url).await?,
        Behaviour::ConsentAs(other) => sim.consent(&url, other).await?,
        Behaviour::Manual | Behaviour::Consent | Behaviour::Cancel => {
            sim.consent(&url, &message.open_id).await?
        }
    };
    sim.follow(&redirect).await.map(drop)
}

/// Returns the user code in the address of the device page; `None` for another page.
fn user_code(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| url.path() == PAGE_PATH)?;
    let code = url.query_pairs().find(|(name, _)| name == "user_code");
    code.map(|(_, code)| code.into_owned())
}
