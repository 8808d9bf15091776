//! Pushes to an application: events and card callbacks, over a long connection or by HTTP.

use std::time::Duration;

use aes::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_models::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    config::Delivery,
    envelope::envelope,
    error::{PushError, SimError},
    sim::Sim,
    state::exposed,
    violations::ViolationKind,
    ws,
};

/// Delivers a body as the application is configured. Returns the answer's JSON.
pub(crate) async fn deliver(
    sim: &Sim,
    app_id: &str,
    kind: &'static str,
    body: &Value,
) -> Result<Option<Value>, PushError> {
    let by_http = {
        let mut state = sim.state();
        state.stats.pushes += 1;
        let Some(app) = state.apps.get(app_id) else { return Err(PushError::NoConnection) };
        match app.delivery {
            Delivery::Http => true,
            Delivery::WebSocket => false,
            Delivery::Auto => state.connections_of(app_id) == 0,
        }
    };
    let answer = if by_http {
        let answer = post_in_time(sim, app_id, body).await;
        if answer.is_ok() {
            sim.state().stats.answers += 1;
        }
        answer
    } else {
        ws::push::push(sim, app_id, kind, body).await
    };
    sim.changed();
    answer
}

/// Posts a body and waits until the deadline. A later answer is a violation.
async fn post_in_time(sim: &Sim, app_id: &str, body: &Value) -> Result<Option<Value>, PushError> {
    /// How long after the deadline a late answer is still detected.
    const LATE_ANSWER_WINDOW: Duration = Duration::from_secs(10);
    let deadline = sim.config().socket.answer_deadline;
    let (sender, answer) = oneshot::channel();
    let (poster, app_id, body) = (sim.clone(), app_id.to_owned(), body.clone());
    sim.spawn(async move {
        let start = Instant::now();
        let answer = post(&poster, &app_id, &body, deadline + LATE_ANSWER_WINDOW).await;
        if answer.is_ok() && start.elapsed() > deadline {
            let detail = format!("after {} ms", start.elapsed().as_millis());
            let now = poster.now();
            poster.state().violations.add(now, ViolationKind::LateAnswer, &app_id, detail);
            poster.changed();
        }
        // The receiver is gone after the deadline.
        let _late = sender.send(answer);
    });
    match timeout(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_stopped)) => Err(PushError::Disconnected),
        Err(_elapsed) => Err(PushError::Timeout),
    }
}

/// Posts a body to the callback URL, signed and encrypted as configured.
async fn post(sim: &Sim, app_id: &str, body: &Value, deadline: Duration) -> Result<Option<Value>, PushError> {
    let (url, encrypt_key, iv, nonce) = {
        let state = sim.state();
        let app = state.apps.get(app_id).ok_or(PushError::NoConnection)?;
        let url = app.callback_url.clone().ok_or(PushError::NoConnection)?;
        (url, app.encrypt_key.clone(), state.random_text(16), state.random_text(16))
    };
    let plain = body.to_string();
    let mut request =
        sim.http().post(url).timeout(deadline).header("content-type", "application/json; charset=utf-8");
    let body = match encrypt_key {
        Some(key) => {
            let key = key.expose_secret();
            let iv: [u8; 16] = iv.as_bytes().try_into().unwrap_or_default();
            let sealed = json!({"encrypt": encrypt(key, iv, plain.as_bytes())}).to_string();
            let timestamp = sim.now().timestamp().to_string();
            request = request
                .header("X-Lark-Signature", signature(&timestamp, &nonce, key, sealed.as_bytes()))
                .header("X-Lark-Request-Timestamp", timestamp)
                .header("X-Lark-Request-Nonce", nonce);
            sealed
        }
        None => plain,
    };
    let failed = |error: &reqwest::Error| {
        if error.is_timeout() { PushError::Timeout } else { PushError::Disconnected }
    };
    let response = request.body(body).send().await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(PushError::Failed(i64::from(status)));
    }
    let answer = response.bytes().await.map_err(|error| failed(&error))?;
    if answer.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&answer).map(Some).map_err(|_| PushError::BadBody)
}

/// Base64 of IV and AES-256-CBC ciphertext.
fn encrypt(key: &str, iv: [u8; 16], plain: &[u8]) -> String {
    let key = Sha256::digest(key.as_bytes());
    let sealed = cbc::Encryptor::<aes::Aes256>::new(&key, &iv.into()).encrypt_padded_vec::<Pkcs7>(plain);
    BASE64_STANDARD.encode([&iv[..], &sealed].concat())
}

fn signature(timestamp: &str, nonce: &str, key: &str, body: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(timestamp)
        .chain_update(nonce)
        .chain_update(key)
        .chain_update(body)
        .finalize();
    hex::encode(digest)
}

impl Sim {
    /// Sends the challenge of a URL verification and expects it back within a second, as the developer console does
    /// when a callback URL is saved.
    ///
    /// # Errors
    /// [`SimError::Callback`] when the answer does not come, or [`SimError::Challenge`] when it is another one.
    pub async fn verify_callback_url(&self, app_id: &str) -> Result<(), SimError> {
        let (challenge, token) = {
            let state = self.state();
            let app = state.apps.get(app_id).ok_or(SimError::NoApp)?;
            (state.random_text(32), exposed(app.verification_token.as_ref()).to_owned())
        };
        let body = json!({"type": "url_verification", "challenge": challenge, "token": token});
        let answer = post(self, app_id, &body, Duration::from_secs(1)).await?;
        match answer {
            Some(answer) if answer["challenge"] == challenge => Ok(()),
            _ => Err(SimError::Challenge),
        }
    }

    /// Pushes an event of any type, and repeats the push while it is unanswered. Returns its `event_id`.
    ///
    /// # Errors
    /// [`SimError::NoApp`].
    pub fn push_event(&self, app_id: &str, event_type: &str, event: &Value) -> Result<String, SimError> {
        let now = self.now();
        let body = {
            let state = self.state();
            state.apps.get(app_id).ok_or(SimError::NoApp)?;
            envelope(&state, now, app_id, event_type, event)
        };
        let event_id = body["header"]["event_id"].as_str().unwrap_or_default().to_owned();
        let (sim, app_id) = (self.clone(), app_id.to_owned());
        self.spawn(async move {
            for wait in std::iter::once(Duration::ZERO).chain(sim.config().socket.event_retries.clone()) {
                sim.wait(wait).await;
                if deliver(&sim, &app_id, "event", &body).await.is_ok() {
                    break;
                }
            }
        });
        Ok(event_id)
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::BlockModeDecrypt;

    use super::*;

    fn decrypt(key: &str, data: &str) -> Vec<u8> {
        let data = BASE64_STANDARD.decode(data).unwrap();
        let (iv, sealed) = data.split_at(16);
        let key = Sha256::digest(key.as_bytes());
        cbc::Decryptor::<aes::Aes256>::new_from_slices(&key, iv)
            .unwrap()
            .decrypt_padded_vec::<Pkcs7>(sealed)
            .unwrap()
    }

    #[test]
    fn encrypt_of_documented_vector_returns_its_ciphertext() {
        assert_eq!(decrypt("test key", "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="), b"hello world");
        assert_eq!(
            decrypt("k", &encrypt("k", [7; 16], "{\"a\":\"ä\"}".as_bytes())),
            "{\"a\":\"ä\"}".as_bytes()
        );
        // With the IV of the vector, the ciphertext must be the documented one.
        let iv: [u8; 16] = BASE64_STANDARD.decode("P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=").unwrap()
            [..16]
            .try_into()
            .unwrap();
        assert_eq!(encrypt("test key", iv, b"hello world"), "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=");
    }
}
