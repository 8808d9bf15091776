use std::collections::BTreeMap;

use larkauth_models::{AppId, OpenId, Timestamp};

use crate::{
    Cipher, Result,
    transfer::{PAGE, Record, RowKey, Table, TokenRecord, Transfer},
};

/// A person whose token has a secret that does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableToken {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// Id of the key that the secret needs; `None` for a malformed one.
    pub key_id: Option<String>,
    /// End of the access token if that one opens; `None` when there is no access any more.
    pub access_until: Option<Timestamp>,
}

/// The tokens that do not open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadableTokens {
    /// Some of them, in the order of application and person.
    pub people: Vec<UnreadableToken>,
    /// The number of all of them, by the key that they need. A token that needs two of them counts twice.
    pub counts: BTreeMap<Option<String>, u64>,
}

impl UnreadableTokens {
    /// Reads all tokens, of one application or of all, and opens each secret. Names at most `most` people.
    ///
    /// # Errors
    /// Fails when the database does not answer.
    pub async fn find(
        database: &dyn Transfer,
        cipher: &Cipher,
        app_id: Option<&AppId>,
        most: usize,
    ) -> Result<Self> {
        let (mut found, mut last): (Self, Option<RowKey>) = (Self::default(), None);
        loop {
            let rows = database.export(Table::Tokens, last.as_ref(), PAGE).await?;
            let Some(end) = rows.last() else { return Ok(found) };
            last = Some(end.key());
            for row in &rows {
                if let Record::Tokens(token) = row
                    && app_id.is_none_or(|app_id| app_id.as_str() == token.app_id)
                {
                    found.add(cipher, row, token, most);
                }
            }
        }
    }

    fn add(&mut self, cipher: &Cipher, row: &Record, token: &TokenRecord, most: usize) {
        let key = row.key().to_string();
        let is_closed =
            |column, value: &[u8]| cipher.open(&[Table::Tokens.name(), column, &key], value).is_err();
        let closed: Vec<_> =
            row.sealed().into_iter().filter(|(column, value)| is_closed(*column, value)).collect();
        let mut ids: Vec<_> =
            closed.iter().map(|(_, value)| Cipher::key_id(value).ok().map(str::to_owned)).collect();
        ids.dedup();
        for id in &ids {
            *self.counts.entry(id.clone()).or_default() += 1;
        }
        let (Some(key_id), Ok(app_id), Ok(open_id)) =
            (ids.into_iter().next(), AppId::new(token.app_id.as_str()), OpenId::new(token.open_id.as_str()))
        else {
            return;
        };
        if self.people.len() < most {
            let has_access = closed.iter().all(|(column, _)| *column != "access_token_sealed");
            let access_until = has_access.then_some(token.access_expires_at);
            self.people.push(UnreadableToken { app_id, open_id, key_id, access_until });
        }
    }
}
