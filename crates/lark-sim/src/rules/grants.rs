//! Codes and tokens: grants of people, and their exchange and refresh by applications.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_models::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    state::{
        State, after,
        codes::Refusal,
        grants::{Access, Api, Code, Owner, Refresh, Used},
    },
    violations::ViolationKind,
};

/// A successful answer of the token endpoint.
pub(crate) struct Issued {
    pub(crate) access_token: String,
    pub(crate) expires_in: u64,
    pub(crate) refresh: Option<(String, u64)>,
    pub(crate) scope: String,
}

/// A request of the token endpoint with a code.
pub(crate) struct CodeRequest<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) code: &'a str,
    pub(crate) redirect_uri: Option<&'a str>,
    pub(crate) verifier: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) api: Api,
    pub(crate) delivered: bool,
}

/// A request of the token endpoint with a refresh token.
pub(crate) struct RefreshRequest<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) refresh_token: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) api: Api,
    pub(crate) delivered: bool,
}

const TOKEN_LENGTH: usize = 1300;

impl State {
    /// Adds the scopes to those granted before and issues a code.
    pub(crate) fn grant_code(
        &mut self,
        now: Timestamp,
        app_id: &str,
        union_id: &str,
        scope: &str,
        redirect_uri: Option<String>,
        challenge: Option<String>,
    ) -> String {
        self.grant_scopes(app_id, union_id, scope);
        let code = self.issue("", 64);
        let entry = Code {
            app_id: app_id.to_owned(),
            union_id: union_id.to_owned(),
            redirect_uri,
            challenge,
            granted_at: now,
            expires_at: after(now, self.lifetimes.code),
            used: None,
        };
        self.grants.codes.insert(code.clone(), entry);
        code
    }

    pub(crate) fn grant_scopes(&mut self, app_id: &str, union_id: &str, scope: &str) {
        let key = (app_id.to_owned(), union_id.to_owned());
        self.grants.scopes.entry(key).or_default().extend(scope.split_whitespace().map(str::to_owned));
    }

    /// Handles `grant_type=authorization_code`.
    pub(crate) fn exchange_code(
        &mut self,
        now: Timestamp,
        request: &CodeRequest<'_>,
    ) -> Result<Issued, Refusal> {
        if let Some(verifier) = request.verifier {
            self.remember_secret(verifier);
        }
        let code = self.grants.codes.get(request.code).ok_or(Refusal::oauth(20003))?;
        if code.app_id != request.app_id {
            return Err(Refusal::oauth(20024));
        }
        if let Some(used) = code.used {
            if used.delivered {
                let union_id = code.union_id.clone();
                self.violations.add(now, ViolationKind::CodeReplayed, request.app_id, union_id);
            }
            return Err(Refusal::oauth(20065));
        }
        if now >= code.expires_at {
            return Err(Refusal::oauth(20004));
        }
        if request.api == Api::V2 {
            check_redirect(code.redirect_uri.as_deref(), request.redirect_uri)?;
            check_verifier(code.challenge.as_deref(), request.verifier)?;
        }
        let (union_id, granted_at) = (code.union_id.clone(), code.granted_at);
        self.check_user(&union_id)?;
        let granted = self.granted(request.app_id, &union_id);
        let scopes = narrowed(&granted, request.scope)?;
        if let Some(code) = self.grants.codes.get_mut(request.code) {
            code.used = Some(Used { delivered: request.delivered });
        }
        Ok(self.issue_pair(now, request.app_id, &union_id, scopes, granted_at, request.api))
    }

    /// Handles `grant_type=refresh_token`.
    pub(crate) fn refresh(
        &mut self,
        now: Timestamp,
        request: &RefreshRequest<'_>,
    ) -> Result<Issued, Refusal> {
        let old = self.grants.refresh.get(request.refresh_token).ok_or(Refusal::oauth(20026))?;
        if old.api != request.api {
            return Err(Refusal::oauth(20026));
        }
        if old.app_id != request.app_id {
            return Err(Refusal::oauth(20024));
        }
        if let Some(used) = old.used {
            if used.delivered {
                let union_id = old.union_id.clone();
                self.violations.add(now, ViolationKind::RefreshReplayed, request.app_id, union_id);
            }
            return Err(Refusal::oauth(20073));
        }
        if old.revoked {
            return Err(Refusal::oauth(20064));
        }
        if now >= old.expires_at || now >= after(old.granted_at, self.lifetimes.consent) {
            return Err(Refusal::oauth(20037));
        }
        if !self.apps.get(request.app_id).is_some_and(|app| app.refresh_enabled) {
            return Err(Refusal::oauth(20074));
        }
        let scopes = narrowed(&old.scopes, request.scope)?;
        let (union_id, granted_at, access) = (old.union_id.clone(), old.granted_at, old.access_token.clone());
        self.check_user(&union_id)?;
        if let Some(old) = self.grants.refresh.get_mut(request.refresh_token) {
            old.used = Some(Used { delivered: request.delivered });
        }
        if let (Some(grace), Some(access)) =
            (self.lifetimes.old_access_grace, self.grants.access.get_mut(&access))
        {
            access.expires_at = access.expires_at.min(after(now, grace));
        }
        Ok(self.issue_pair(now, request.app_id, &union_id, scopes, granted_at, request.api))
    }

    /// Issues an access token and, with `offline_access` or by the historical endpoint, a refresh token.
    pub(crate) fn issue_pair(
        &mut self,
        now: Timestamp,
        app_id: &str,
        union_id: &str,
        scopes: BTreeSet<String>,
        granted_at: Timestamp,
        api: Api,
    ) -> Issued {
        let access_token = self.issue_access(
            now,
            app_id,
            Owner::User(union_id.to_owned()),
            "u-",
            TOKEN_LENGTH,
            self.lifetimes.access,
        );
        let scope = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let life = match api {
            Api::V1 => self.lifetimes.refresh_v1,
            Api::V2 => self.lifetimes.refresh,
        };
        let refresh = (api == Api::V1 || scopes.contains("offline_access")).then(|| {
            let token = self.issue("ur-", TOKEN_LENGTH);
            let entry = Refresh {
                app_id: app_id.to_owned(),
                union_id: union_id.to_owned(),
                api,
                scopes,
                granted_at,
                expires_at: after(now, life),
                access_token: access_token.clone(),
                used: None,
                revoked: false,
            };
            self.grants.refresh.insert(token.clone(), entry);
            (token, life.as_secs())
        });
        Issued { access_token, expires_in: self.lifetimes.access.as_secs(), refresh, scope }
    }

    fn issue_access(
        &mut self,
        now: Timestamp,
        app_id: &str,
        owner: Owner,
        prefix: &str,
        length: usize,
        life: std::time::Duration,
    ) -> String {
        let token = self.issue(prefix, length);
        let access = Access { app_id: app_id.to_owned(), owner, expires_at: after(now, life) };
        self.grants.access.insert(token.clone(), access);
        token
    }

    /// Returns the application's tenant or app token and its remaining seconds. A token close to its expiry is
    /// replaced.
    pub(crate) fn shared_token(&mut self, now: Timestamp, app_id: &str, owner: Owner) -> (String, u64) {
        let (prefix, name) = if owner == Owner::Tenant { ("t-", "tenant") } else { ("a-", "app") };
        let key = (app_id.to_owned(), name);
        let current = self.grants.shared.get(&key);
        if let Some((token, access)) = current.and_then(|token| Some((token, self.grants.access.get(token)?)))
        {
            let left = (access.expires_at - now).to_std().unwrap_or_default();
            if left > self.lifetimes.tenant_renewal {
                return (token.clone(), left.as_secs());
            }
        }
        let token = self.issue_access(now, app_id, owner, prefix, 40, self.lifetimes.tenant);
        self.grants.shared.insert(key, token.clone());
        (token, self.lifetimes.tenant.as_secs())
    }

    /// Returns the access token's entry, expired or not.
    pub(crate) fn access(&self, token: &str) -> Option<&Access> {
        self.grants.access.get(token)
    }

    /// Returns the application and the person of a refresh token.
    pub(crate) fn refresh_owner(&self, token: &str) -> Option<(String, String)> {
        self.grants.refresh.get(token).map(|refresh| (refresh.app_id.clone(), refresh.union_id.clone()))
    }

    /// Revokes everything that the person granted to the application.
    pub(crate) fn revoke(&mut self, app_id: &str, union_id: &str, now: Timestamp) {
        self.grants.scopes.remove(&(app_id.to_owned(), union_id.to_owned()));
        for refresh in self.grants.refresh.values_mut() {
            refresh.revoked |= refresh.app_id == app_id && refresh.union_id == union_id;
        }
        let owner = Owner::User(union_id.to_owned());
        for access in self.grants.access.values_mut() {
            if access.app_id == app_id && access.owner == owner {
                access.expires_at = access.expires_at.min(now);
            }
        }
    }

    pub(crate) fn granted(&self, app_id: &str, union_id: &str) -> BTreeSet<String> {
        self.grants.scopes.get(&(app_id.to_owned(), union_id.to_owned())).cloned().unwrap_or_default()
    }
}

fn check_redirect(registered: Option<&str>, given: Option<&str>) -> Result<(), Refusal> {
    match registered {
        Some(uri) if given != Some(uri) => Err(Refusal::oauth(20071)),
        _ => Ok(()),
    }
}

fn check_verifier(challenge: Option<&str>, verifier: Option<&str>) -> Result<(), Refusal> {
    let Some(challenge) = challenge else { return Ok(()) };
    let verifier = verifier.ok_or(Refusal::oauth(20049))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let matches = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge;
    if (43..=128).contains(&verifier.len()) && verifier.chars().all(allowed) && matches {
        Ok(())
    } else {
        Err(Refusal::oauth(20049))
    }
}

/// Returns the granted scopes, or the requested part of them.
fn narrowed(granted: &BTreeSet<String>, wanted: Option<&str>) -> Result<BTreeSet<String>, Refusal> {
    let Some(wanted) = wanted else { return Ok(granted.clone()) };
    let list: Vec<_> = wanted.split_whitespace().map(str::to_owned).collect();
    let set: BTreeSet<_> = list.iter().cloned().collect();
    if set.len() != list.len() {
        return Err(Refusal::oauth(20067));
    }
    if !set.is_subset(granted) {
        return Err(Refusal::oauth(20068));
    }
    Ok(if set.is_empty() { granted.clone() } else { set })
}
