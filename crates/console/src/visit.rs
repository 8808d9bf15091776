//! The extractors of the handlers. A handler that has one runs for a login with its scope only.

use std::{collections::BTreeMap, fmt::Display, marker::PhantomData, str::FromStr, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{Method, request::Parts},
    response::{IntoResponse, Response},
};
use larkauth_auth::Context;
use larkauth_models::{Actor, AppId, ExposeSecret, KeyScope, OpenId, Timestamp};
use subtle::ConstantTimeEq;

use crate::{
    failure::Failure,
    lang::Lang,
    same_origin::is_same_origin,
    shell::Shell,
    state::Console,
    target,
    visitor::{Login, Visitor},
};

/// The scope that a page requires, as a type.
pub(crate) trait Scope {
    /// `None`: any key.
    const SCOPE: Option<KeyScope>;
}

/// Any key.
pub(crate) struct AnyKey;
impl Scope for AnyKey {
    const SCOPE: Option<KeyScope> = None;
}

macro_rules! scopes {
    ($($name:ident),+) => {
        $(
            #[doc = concat!("[`KeyScope::", stringify!($name), "`]")]
            pub(crate) struct $name;
            impl Scope for $name {
                const SCOPE: Option<KeyScope> = Some(KeyScope::$name);
            }
        )+
    };
}
scopes!(SessionsRead, SessionsWrite, TokensRead, AuditRead, AppsAdmin, Everything);

/// A request for a page, by a login with the scope `S`.
pub(crate) struct Visit<S> {
    pub(crate) context: Context,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
    pub(crate) lang: Lang,
    pub(crate) query: Fields,
    pub(crate) visitor: Arc<Visitor>,
    scope: PhantomData<S>,
}

impl<S> Visit<S> {
    pub(crate) fn shell(&self) -> Shell {
        Shell::new(&self.visitor, self.now)
    }
}

impl<S: Scope> FromRequestParts<Arc<Console>> for Visit<S> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        let visitor = visitor(parts).map_err(IntoResponse::into_response)?;
        let Some(login) = &visitor.login else { return Err(to_login(parts)) };
        let (context, now) = (console.context.clone(), console.context.now());
        check_scope::<S>(&context, login, now).map_err(IntoResponse::into_response)?;
        Ok(Self {
            context,
            actor: login.actor.clone(),
            now,
            lang: visitor.lang,
            query: Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
            visitor,
            scope: PhantomData,
        })
    }
}

/// A form that changes something, sent by a page of the same login with the scope `S`.
pub(crate) struct Posted<S> {
    pub(crate) visit: Visit<S>,
    pub(crate) form: Fields,
}

impl<S: Scope + Send> FromRequest<Arc<Console>> for Posted<S> {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = visitor(&parts).map_err(IntoResponse::into_response)?;
        if !is_same_origin(&parts.headers, &visitor.reached) {
            return Err(Failure::Form.into_response());
        }
        let visit = Visit::from_request_parts(&mut parts, console).await?;
        // The limits of the router have read the whole body already.
        let body = Bytes::from_request(Request::from_parts(parts, body), console).await;
        let form = Fields::parse(&body.map_err(IntoResponse::into_response)?);
        let expected = visitor.login.as_ref().map(|login| login.session.csrf_token.expose_secret());
        let sent = form.get("csrf").unwrap_or_default();
        match expected {
            Some(expected) if expected.as_bytes().ct_eq(sent.as_bytes()).into() => Ok(Self { visit, form }),
            _ => Err(Failure::Form.into_response()),
        }
    }
}

fn visitor(parts: &Parts) -> Result<Arc<Visitor>, Failure> {
    let visitor = parts.extensions.get::<Arc<Visitor>>().cloned();
    visitor.ok_or_else(|| Failure::Internal("the layer of the login is missing".to_owned()))
}

fn to_login(parts: &Parts) -> Response {
    let next = target::of(&parts.uri);
    match next.as_str() {
        next if !next.is_empty() && parts.method == Method::GET => {
            target::see(&format!("login?{}", target::query([("next", next)])))
        }
        _ => target::see("login"),
    }
}

fn check_scope<S: Scope>(context: &Context, login: &Login, now: Timestamp) -> Result<(), Failure> {
    match S::SCOPE {
        Some(scope) if !scope.is_among(&login.key.scopes) => {
            context.note_denied(&login.actor, now, scope);
            Err(Failure::Scope(scope))
        }
        _ => Ok(()),
    }
}

/// The fields of a query or a form. The first of equal names counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            fields.entry(name.into_owned()).or_insert_with(|| value.trim().to_owned());
        }
        Self(fields)
    }

    /// Returns a field that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns a field that is not empty, as a value.
    pub(crate) fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &str| text.parse().map_err(|error| Failure::Invalid(format!("{name}: {error}")));
        self.get(name).map(parse).transpose()
    }

    /// Returns a field that must be there.
    pub(crate) fn needed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Failure> {
        self.value(name)?.ok_or_else(|| Failure::Invalid(format!("{name}: is missing")))
    }

    /// Returns application and person.
    pub(crate) fn person(&self) -> Result<(AppId, OpenId), Failure> {
        Ok((self.needed("app_id")?, self.needed("open_id")?))
    }

    /// Returns these fields that are not empty, as a query, with others after them.
    pub(crate) fn again(&self, names: &[&str], others: &[(&str, &str)]) -> String {
        let same = names.iter().filter_map(|name| Some((*name, self.get(name)?)));
        target::query(same.chain(others.iter().copied()))
    }
}
