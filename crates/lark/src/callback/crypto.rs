//! Encryption, decryption and signatures of HTTP callbacks.

use aes::Aes256;
use base64::{Engine, prelude::BASE64_STANDARD};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use larkauth_models::{ExposeSecret, SecretString};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const IV_BYTES: usize = 16;
/// Length of the signature of a historical card callback.
pub(crate) const OLD_SIGNATURE_BYTES: usize = 20;

/// Encrypts a body as Lark does: AES-256-CBC with PKCS#7 padding under the SHA-256 of the key, prefixed with the IV, in
/// base64. The IV must be random.
#[must_use]
pub fn encrypt(encrypt_key: &SecretString, iv: [u8; IV_BYTES], plain: &[u8]) -> String {
    let cipher = cbc::Encryptor::<Aes256>::new(&aes_key(encrypt_key).into(), &iv.into());
    let mut data = iv.to_vec();
    data.extend(cipher.encrypt_padded_vec::<Pkcs7>(plain));
    BASE64_STANDARD.encode(data)
}

/// Decrypts a text of [`encrypt`]. Returns `None` when the text was not encrypted with this key.
#[must_use]
pub fn decrypt(encrypt_key: &SecretString, text: &str) -> Option<Vec<u8>> {
    let data = BASE64_STANDARD.decode(text).ok()?;
    let (iv, data) = data.split_first_chunk::<IV_BYTES>()?;
    let cipher = cbc::Decryptor::<Aes256>::new(&aes_key(encrypt_key).into(), &(*iv).into());
    cipher.decrypt_padded_vec::<Pkcs7>(data).ok()
}

/// Returns the value of `X-Lark-Signature`: hexadecimal SHA-256 of timestamp, nonce, key and the body as sent.
#[must_use]
pub fn sign(encrypt_key: &SecretString, timestamp: &str, nonce: &str, body: &[u8]) -> String {
    hex::encode(signature(encrypt_key, timestamp, nonce, body))
}

pub(super) fn signature(encrypt_key: &SecretString, timestamp: &str, nonce: &str, body: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(timestamp)
        .chain_update(nonce)
        .chain_update(encrypt_key.expose_secret())
        .chain_update(body)
        .finalize()
        .into()
}

/// Returns the signature of a historical card callback: SHA-1 of timestamp, nonce, verification token and the body as
/// sent.
pub(crate) fn old_card_signature(
    verification_token: &SecretString,
    timestamp: &str,
    nonce: &str,
    body: &[u8],
) -> [u8; OLD_SIGNATURE_BYTES] {
    Sha1::new()
        .chain_update(timestamp)
        .chain_update(nonce)
        .chain_update(verification_token.expose_secret())
        .chain_update(body)
        .finalize()
        .into()
}

fn aes_key(encrypt_key: &SecretString) -> [u8; 32] {
    Sha256::digest(encrypt_key.expose_secret()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn decrypt_documented_vector_returns_plain_text() {
        let plain = decrypt(&key("test key"), "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=");
        assert_eq!(plain.as_deref(), Some(&b"hello world"[..]));
    }

    #[test]
    fn decrypt_wrong_key_or_text_returns_none() {
        let text = encrypt(&key("one"), [7; 16], b"{\"a\":1}");
        assert_ne!(decrypt(&key("two"), &text).as_deref(), Some(&b"{\"a\":1}"[..]));
        for broken in ["", "AAAA", "not base64!", &text[..text.len() - 4]] {
            assert_eq!(decrypt(&key("one"), broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn decrypt_encrypted_text_returns_plain_text(iv: [u8; 16], plain: Vec<u8>, secret: String) {
            let secret = key(&secret);
            prop_assert_eq!(decrypt(&secret, &encrypt(&secret, iv, &plain)), Some(plain));
        }

        #[test]
        fn decrypt_arbitrary_input_does_not_panic(text: String, bytes: Vec<u8>) {
            let _ = decrypt(&key("k"), &text);
            let _ = decrypt(&key("k"), &BASE64_STANDARD.encode(bytes));
        }
    }
}
