//! The settings of `APP_ID`, and what they change of a registration.

use larkauth_config::{ConfigError, LoadOptions, Service, Settings};
use larkauth_models::{Brand, ExposeSecret, TokenApi};

fn load(service: Service, pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::from_pairs(&LoadOptions { config_file: None, service }, pairs)
}

#[test]
fn application_over_registration_keeps_settings_not_given() {
    let app = [("APP_ID", "cli_0123456789abcdef"), ("APP_SECRET", "s3cr3t")];
    let given = [
        ("OAUTH_REDIRECT_URI", "https://auth.example.com/oauth/callback"),
        ("OAUTH_SCOPES", "im:message"),
        ("LARK_BRAND", "lark"),
        ("LARK_TOKEN_API", "v1"),
        ("LARK_ENCRYPT_KEY", "encrypt-key"),
    ];
    let gateway = load(Service::Standalone, &[&app[..], &given].concat()).unwrap().application.unwrap();
    let known = larkauth_models::Application { enabled: false, ..gateway };

    let worker = load(Service::Standalone, &[("APP_SECRET", "new"), app[0]]).unwrap();
    let merged = worker.application_over(known.clone()).unwrap();
    assert_eq!(merged.app_secret.expose_secret(), "new");
    assert_eq!(
        (merged.brand, merged.token_api, &merged.redirect_uri, &merged.default_scopes, merged.enabled),
        (known.brand, known.token_api, &known.redirect_uri, &known.default_scopes, false)
    );
    assert!(merged.encrypt_key.is_some());

    // A given setting overrides the registration, even when it equals the default.
    let given = [("LARK_BRAND", "feishu"), ("OAUTH_SCOPES", "offline_access")];
    let merged =
        load(Service::Standalone, &[&app[..], &given].concat()).unwrap().application_over(known).unwrap();
    assert_eq!((merged.brand, merged.token_api), (Brand::Feishu, TokenApi::V1));
    assert_eq!(merged.default_scopes, ["offline_access"]);
}

#[test]
fn application_digest_changes_with_every_given_setting() {
    let app = [("APP_ID", "cli_0123456789abcdef"), ("APP_SECRET", "s3cr3t")];
    let digest = |more: &[(&str, &str)]| {
        load(Service::Standalone, &[&app[..], more].concat()).unwrap().application_digest().unwrap()
    };
    let mut seen = vec![digest(&[])];
    for more in [
        ("LARK_VERIFICATION_TOKEN", "v"),
        ("LARK_ENCRYPT_KEY", "v"),
        // A given default is another setting than none: it overrides the registration.
        ("LARK_BRAND", "feishu"),
        ("LARK_BRAND", "lark"),
        ("LARK_TOKEN_API", "v2"),
        ("OAUTH_SCOPES", "offline_access"),
        ("OAUTH_REDIRECT_URI", "https://auth.example.com/oauth/callback"),
    ] {
        assert_eq!(digest(&[more]), digest(&[more]));
        seen.push(digest(&[more]));
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    // Others do not matter.
    assert_eq!(digest(&[("HTTP_ADDR", "127.0.0.1:1")]), digest(&[]));
    assert!(load(Service::Standalone, &[]).unwrap().application_digest().is_none());
}

#[test]
fn app_id_without_secret_is_accepted_for_commands_only() {
    let app = [("APP_ID", "cli_0123456789abcdef")];
    assert!(load(Service::Standalone, &app).is_err());
    assert!(load(Service::Command, &app).unwrap().application.is_none());
}
