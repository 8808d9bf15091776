use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, request},
};
use larkauth_auth::api_keys::NewApiKey;
use larkauth_models::{ExposeSecret, KeyScope};
use uuid::Uuid;

use crate::actor::ACTOR;
use crate::tests::world::{APP, Answer, KEY, PERSON, World, now};

/// Every page that shows something, with what it needs.
pub(super) fn pages(session: &str) -> Vec<String> {
    let person = format!("app_id={APP}&open_id={PERSON}");
    let plain = ["", "sessions", "people", "horizon", "dead-letters", "audit", "apps"];
    let mut pages: Vec<String> = plain.map(str::to_owned).into();
    pages.extend(["person", "refresh", "revoke"].map(|page| format!("{page}?{person}")));
    pages.extend(["requeue", "drop"].map(|page| format!("{page}?id=letter-1")));
    pages.extend(["enable", "disable"].map(|page| format!("{page}?app_id={APP}")));
    pages.push(format!("session?id={session}"));
    pages
}

/// Every form that changes something, with its fields but for the token.
pub(super) fn forms() -> Vec<(&'static str, String)> {
    let person = format!("app_id={APP}&open_id={PERSON}");
    vec![
        ("revoke", person.clone()),
        ("refresh", person),
        ("requeue", "id=letter-1".to_owned()),
        ("drop", "id=letter-1".to_owned()),
        ("disable", format!("app_id={APP}")),
        ("enable", format!("app_id={APP}")),
        ("logout", String::new()),
    ]
}

/// A browser with at most one cookie.
pub(super) struct Browser<'a> {
    world: &'a World,
    pub(super) cookie: Option<String>,
    /// Of the last page that held one.
    pub(super) csrf: String,
    pub(super) language: &'static str,
    pub(super) peer: SocketAddr,
    /// What a proxy adds.
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

impl<'a> Browser<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let peer = "192.0.2.1:4711".parse().unwrap();
        Self { world, cookie: None, csrf: String::new(), language: "en", peer, headers: Vec::new() }
    }

    /// A browser that is logged in with the bootstrap key.
    pub(super) async fn logged_in(world: &'a World) -> Self {
        Self::with_key(world, KEY).await
    }

    /// A browser that is logged in with this key.
    pub(super) async fn with_key(world: &'a World, key: &str) -> Self {
        let mut browser = Self::new(world);
        let answer = browser.log_in(key).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "./"), "{}", answer.text);
        browser.get("").await;
        browser
    }

    /// A browser that is logged in with a new key of these scopes and applications.
    pub(super) async fn with_scopes(world: &'a World, scopes: &[KeyScope], apps: &[&str]) -> (Self, Uuid) {
        let new = NewApiKey {
            name: "operator".to_owned(),
            scopes: scopes.to_vec(),
            app_ids: apps.iter().map(|app| app.parse().unwrap()).collect(),
            lark_scopes: Vec::new(),
            requests_per_minute: None,
            expires_at: None,
        };
        let created = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
        (Self::with_key(world, created.secret.expose_secret()).await, created.key.id)
    }

    fn request(&self, method: &str, page: &str) -> request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/console/{page}"))
            .header("host", "console.example")
            .header("accept-language", self.language)
            .extension(ConnectInfo(self.peer));
        for (name, value) in self.headers.iter().copied().chain(self.cookie.as_deref().map(|c| ("cookie", c)))
        {
            request = request.header(name, value);
        }
        request
    }

    pub(super) async fn get(&mut self, page: &str) -> Answer {
        let answer = self.world.send(self.request("GET", page).body(Body::empty()).unwrap()).await;
        self.keep(answer)
    }

    /// Sends a form as a page of the console does.
    pub(super) async fn post(&mut self, page: &str, fields: &str) -> Answer {
        self.post_from(page, fields, &[("sec-fetch-site", "same-origin")]).await
    }

    /// Sends a form with these headers.
    pub(super) async fn post_from(&mut self, page: &str, fields: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            self.request("POST", page).header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.world.send(request.body(Body::from(fields.to_owned())).unwrap()).await;
        self.keep(answer)
    }

    /// Sends a form with its token.
    pub(super) async fn submit(&mut self, page: &str, fields: &str) -> Answer {
        let fields = format!("csrf={}&{fields}", self.csrf);
        self.post(page, &fields).await
    }

    pub(super) async fn log_in(&mut self, key: &str) -> Answer {
        self.post("login", &format!("key={key}")).await
    }

    fn keep(&mut self, answer: Answer) -> Answer {
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split(';').next().unwrap();
            if !pair.starts_with("larkauth_console_language") {
                self.cookie = (!cookie.contains("Max-Age=0")).then(|| pair.to_owned());
            }
        }
        if let Some((_, rest)) = answer.text.split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap().to_owned();
        }
        answer
    }
}
