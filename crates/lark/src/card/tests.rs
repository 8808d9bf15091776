use larkauth_models::ReauthorizationReason;

use super::*;
use crate::event::{CardAction, Event};

/// Returns a click whose push has this `action`.
pub(super) fn click(action: &Value) -> CardAction {
    let event = json!({ "operator": { "open_id": "ou_1" }, "action": action });
    let push = json!({ "header": { "event_type": "card.action.trigger" }, "event": event });
    CardAction::from_event(&Event::parse(push.to_string().as_bytes()).unwrap()).unwrap()
}

const LARK_LIMIT: usize = 30 * 1024;

fn options() -> CardOptions {
    CardOptions { app_name: Some("报销助手".into()), ..CardOptions::default() }
}

fn scopes() -> Vec<String> {
    vec!["contact:user.base:readonly".into(), "offline_access".into()]
}

/// Calls `check` with a complete content, which `check` may change.
fn with_content<T>(face: CardFace, options: &CardOptions, check: impl FnOnce(CardContent<'_>) -> T) -> T {
    let (scopes, url) =
        (scopes(), "https://accounts.example.com/authorize?client_id=c&state=s".parse().unwrap());
    check(CardContent {
        face,
        session_id: "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap(),
        scopes: &scopes,
        options,
        authorize_url: Some(&url),
        device: None,
        valid_for: Some(Duration::from_millis(599_700)),
        person_name: Some("李雷"),
        person_en_name: Some("Li Lei"),
        failure: None,
    })
}

fn card(face: CardFace, options: &CardOptions) -> Value {
    with_content(face, options, |content| render(&content))
}

#[test]
fn render_every_face_matches_snapshot() {
    for face in CardFace::ALL {
        insta::assert_json_snapshot!(face.as_str(), card(*face, &options()));
    }
}

#[test]
fn render_every_option_matches_snapshot() {
    let concise = CardOptions { include_description: false, ..options() };
    let message =
        CardOptions { custom_message: Some("We need this for\nyour **expenses**.".into()), ..options() };
    let privacy =
        CardOptions { privacy_policy_url: Some("https://example.com/privacy".parse().unwrap()), ..options() };
    let template = CardOptions {
        template_id: Some("AAq0123".into()),
        custom_message: Some("<at id=all></at> [click](https://evil.example)".into()),
        ..options()
    };
    let all = CardOptions { include_description: false, template_id: None, ..message.clone() };
    let all = CardOptions { requested_by: Some("crm".into()), ..all };
    let all = CardOptions { privacy_policy_url: privacy.privacy_policy_url.clone(), ..all };
    for (name, options) in [
        ("concise", concise),
        ("message", message),
        ("privacy", privacy),
        ("template", template),
        ("all", all),
    ] {
        insta::assert_json_snapshot!(format!("invitation_{name}"), card(CardFace::Invitation, &options));
        insta::assert_json_snapshot!(format!("reauthorize_{name}"), card(CardFace::Reauthorize, &options));
    }
}

#[test]
fn render_reauthorization_says_why_in_both_languages() {
    let texts = |reason| {
        let options = CardOptions { reauthorize: reason, ..options() };
        card(CardFace::Reauthorize, &options)["body"]["elements"][0]["text"]["i18n_content"].clone()
    };
    let (ended, soon) =
        (texts(Some(ReauthorizationReason::Ended)), texts(Some(ReauthorizationReason::EndsSoon)));
    assert_eq!(texts(None), ended);
    insta::assert_json_snapshot!("reauthorize_reasons", [ended, soon]);
}

#[test]
fn render_every_failure_matches_snapshot() {
    let texts = FailureReason::ALL.iter().map(|reason| {
        let options = options();
        let card = with_content(CardFace::Failed, &options, |c| {
            render(&CardContent { failure: Some(*reason), ..c })
        });
        (reason.as_str(), card["body"]["elements"][0]["text"]["i18n_content"].clone())
    });
    insta::assert_json_snapshot!(texts.collect::<std::collections::BTreeMap<_, _>>());
}

#[test]
fn render_minimal_content_matches_snapshot() {
    let options = CardOptions::default();
    for face in [CardFace::Invitation, CardFace::Processing, CardFace::Done, CardFace::Failed] {
        let card = with_content(face, &options, |c| {
            render(&CardContent {
                scopes: &[],
                authorize_url: None,
                valid_for: None,
                person_name: None,
                person_en_name: None,
                ..c
            })
        });
        insta::assert_json_snapshot!(format!("bare_{face}"), card);
    }
}

#[test]
fn render_only_offline_access_lists_no_scopes() {
    let options = options();
    let card = with_content(CardFace::Invitation, &options, |c| {
        render(&CardContent { scopes: &["offline_access".to_owned()], ..c })
    })
    .to_string();
    assert!(card.contains(&*text::OFFLINE.en_us), "{card}");
    assert!(!card.contains(&*text::SCOPES.en_us) && !card.contains("offline_access"), "{card}");
}

#[test]
fn render_device_code_on_open_faces_only() {
    let (address, user_code) = ("https://a.example/device".parse().unwrap(), SecretString::from("BCDF-GHJK"));
    let device = DeviceCode { verification_uri: &address, user_code: &user_code };
    assert!(!format!("{device:?}").contains("BCDF"));
    for face in CardFace::ALL {
        let card = with_content(*face, &options(), |c| render(&CardContent { device: Some(device), ..c }));
        let shown = card.to_string().contains("BCDF-GHJK");
        assert_eq!(shown, !face.is_final(), "{face}");
        if shown {
            insta::assert_json_snapshot!(format!("device_{face}"), card["body"]["elements"]);
        }
    }
    let template = CardOptions { template_id: Some("t".into()), ..options() };
    let card =
        with_content(CardFace::Invitation, &template, |c| render(&CardContent { device: Some(device), ..c }));
    let variables = &card["data"]["template_variable"];
    assert_eq!(variables["user_code"], "BCDF-GHJK");
    assert_eq!(variables["verification_uri"], "https://a.example/device");
}

/// Collects all objects in a card that have a key.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).map(|_| value));
            map.values().for_each(|inner| find(inner, key, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| find(inner, key, found)),
        _ => {}
    }
}

#[test]
fn render_every_face_can_be_updated_and_has_its_buttons() {
    for face in CardFace::ALL {
        let card = card(*face, &options());
        assert_eq!(card["schema"], "2.0");
        assert_eq!(card["config"]["update_multi"], true);
        let mut callbacks = Vec::new();
        find(&card, "value", &mut callbacks);
        let actions: Vec<_> =
            callbacks.iter().map(|c| ButtonAction::read(&click(c)).unwrap().action).collect();
        let expected: &[ButtonKind] = match face {
            CardFace::Invitation | CardFace::Reauthorize | CardFace::Processing => {
                &[ButtonKind::Authorize, ButtonKind::Cancel]
            }
            CardFace::Expired | CardFace::Failed => &[ButtonKind::Retry],
            CardFace::Done | CardFace::Declined => &[],
        };
        assert_eq!(actions, expected, "{face}");
    }
}

#[test]
fn render_update_of_template_has_form_for_each_schema() {
    let template = CardOptions { template_id: Some("AAq0123".into()), ..options() };
    for face in CardFace::ALL {
        let plain = options();
        let plain = with_content(*face, &plain, |content| render_update(&content));
        assert_eq!(plain, [card(*face, &options())], "{face}");
        let forms = with_content(*face, &template, |content| render_update(&content));
        let (answer, shows) = with_content(*face, &template, |content| render_answer(&content));
        assert_eq!((answer["type"].as_str(), shows), (Some("template"), invites(*face)), "{face}");
        assert_eq!(answer["data"]["template_variable"]["face"], face.as_str());
        if invites(*face) {
            assert_eq!(forms, [answer], "{face}");
            continue;
        }
        let [old, new] = &forms[..] else { panic!("{face}: {forms:?}") };
        assert_eq!(*new, card(*face, &options()));
        assert!(old.get("schema").is_none() && old["elements"].is_array(), "{old}");
        assert_eq!(old["config"]["update_multi"], true);
        for absent in ["behaviors", "i18n_content", "column_set", "text_size", "primary_filled"] {
            assert!(!old.to_string().contains(absent), "{absent}: {old}");
        }
        let actions = |card: &Value| {
            let mut values = Vec::new();
            find(card, "value", &mut values);
            values.iter().map(|c| ButtonAction::read(&click(c)).unwrap().action).collect::<Vec<_>>()
        };
        assert_eq!(actions(old), actions(new), "{face}");
    }
    insta::assert_json_snapshot!(
        "version1_failed",
        with_content(CardFace::Failed, &template, |c| render_update(&c))[0]
    );
    insta::assert_json_snapshot!(
        "version1_processing",
        with_content(CardFace::Processing, &template, |c| render_update(&c))[0]
    );
}

#[test]
fn render_hostile_text_stays_plain_text() {
    let hostile = "<at id=all></at> [free](https://evil.example) **bold** \u{202e}txt\u{0}";
    let text = || Some(hostile.to_owned());
    let options = CardOptions {
        custom_message: text(),
        app_name: text(),
        requested_by: text(),
        ..CardOptions::default()
    };
    let card = with_content(CardFace::Invitation, &options, |c| {
        render(&CardContent { scopes: &[hostile.to_owned()], ..c })
    });
    let mut texts = Vec::new();
    find(&card["body"], "content", &mut texts);
    find(&card["header"], "content", &mut texts);
    assert!(texts.len() > 5 && texts.iter().all(|text| text["tag"] == "plain_text"));
    assert!(!card.to_string().contains('\u{202e}'));

    let options = CardOptions { template_id: Some("t".into()), ..options };
    let card = with_content(CardFace::Invitation, &options, |c| render(&c));
    let variables = card["data"]["template_variable"].as_object().unwrap();
    for key in ["custom_message", "app_name", "requested_by"] {
        let text = variables[key].as_str().unwrap();
        assert!(!text.contains(['<', '>', '[', ']', '\u{202e}', '\0']), "{text}");
    }
}

#[test]
fn render_longest_content_is_below_lark_limit() {
    let scopes: Vec<_> = (0..50).map(|i| format!("{i}{}", "s".repeat(200))).collect();
    let query = scopes.iter().map(|s| format!("{}%20", &s[..60])).collect::<String>();
    let url = format!("https://accounts.example.com/authorize?scope={query}").parse().unwrap();
    for message in ["\u{1f600}", "\"", "\\", "\n"].map(|c| c.repeat(5000)) {
        for template_id in [None, Some("t".to_owned())] {
            let options = CardOptions {
                template_id,
                custom_message: Some(message.clone()),
                privacy_policy_url: Some("https://example.com/privacy".parse().unwrap()),
                app_name: Some(message.clone()),
                requested_by: Some(message.clone()),
                ..options()
            };
            for face in CardFace::ALL {
                let content = with_content(*face, &options, |c| {
                    let name = Some(message.as_str());
                    render(&CardContent {
                        scopes: &scopes,
                        authorize_url: Some(&url),
                        person_name: name,
                        person_en_name: name,
                        ..c
                    })
                })
                .to_string();
                assert!(content.len() < LARK_LIMIT, "{face}: {} bytes", content.len());
                // Inside a message it is a JSON text in JSON, with every quote escaped once more.
                assert!(Value::String(content).to_string().len() < LARK_LIMIT);
            }
        }
    }
}

#[test]
fn valid_for_rounds_to_minutes_or_hours() {
    let said = |seconds| text::valid_for(Duration::from_secs(seconds)).en_us.into_owned();
    assert_eq!(said(0), "Please answer within a minute.");
    assert_eq!(said(89), "Please answer within a minute.");
    // A card that has just been sent, of an invitation for 600 seconds.
    assert_eq!(said(599), "Please answer within 10 minutes.");
    assert_eq!(said(569), "Please answer within 9 minutes.");
    assert_eq!(said(7200), "Please answer within 2 hours.");
}
