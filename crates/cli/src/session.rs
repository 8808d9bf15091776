//! `larkauth session`: states of sessions.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use clap::Subcommand;
use larkauth_auth::Context;
use larkauth_contracts::rest::SessionView;
use larkauth_models::{AppId, FailureReason, OpenId, SessionId, SessionState};
use larkauth_storage::{SessionCursor, SessionFilter};
use tokio::time::Instant;

use crate::{
    follow,
    globals::{Globals, operator},
    output::{self, Format, or_dash, time},
    registered::check_registered,
    report,
};

/// Interval between two reads of the sessions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of watched sessions, the newest ones.
const MAX_WATCHED: u32 = 200;
/// Default limit of following a single session, in seconds: one day, longer than the lifetime of any session.
const DEFAULT_LIMIT: u64 = 24 * 3600;

/// List, show and watch sessions
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    List(List),
    /// Show one session
    #[command(after_help = "Example:\n  larkauth session show 0198c5a0-0000-7000-8000-000000000000")]
    Show {
        /// The session
        id: SessionId,
    },
    Watch(Watch),
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Of this application only
    #[arg(long, value_name = "APP_ID")]
    app: Option<AppId>,
    /// Of this person only
    #[arg(long, value_name = "OPEN_ID")]
    open_id: Option<OpenId>,
    /// In this state only: `pending`, `completed`, `rejected`, `expired` or `failed`
    #[arg(long)]
    state: Option<SessionState>,
}

impl Filter {
    fn of_store(&self) -> SessionFilter {
        SessionFilter {
            app_id: self.app.clone(),
            app_ids: Vec::new(),
            open_id: self.open_id.clone(),
            state: self.state,
        }
    }
}

/// List sessions, newest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth session list --state pending\n  larkauth session list --limit 50 --after 0198c5a0-0000-7000-8000-000000000000"
)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue after this session, the last one of the page before
    #[arg(long, value_name = "SESSION_ID")]
    after: Option<SessionId>,
}

/// Follow one session until it ends, or all that change
///
/// One session: ends with it, with 0 when the person has authorized and with 4 otherwise. Several: one line for each
/// as it is now, then one for each change, until it is stopped or --for is over; the newest 200 that match are watched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth session watch 0198c5a0-0000-7000-8000-000000000000\n  larkauth session watch --app cli_0123456789abcdef --json"
)]
pub(crate) struct Watch {
    /// One session; all that match without it
    #[arg(conflicts_with_all = ["app", "open_id", "state"])]
    id: Option<SessionId>,
    #[command(flatten)]
    filter: Filter,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

pub(crate) async fn run(command: Session, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    globals
        .connected(async |context| match command {
            Session::List(arguments) => arguments.run(context, format).await,
            Session::Show { id } => show(context, id, format).await,
            Session::Watch(arguments) => arguments.run(context, format).await,
        })
        .await
}

fn person(session: &SessionView) -> String {
    let open_id = session.open_id.as_ref().map(ToString::to_string);
    or_dash(open_id.or_else(|| session.user_id.as_ref().map(ToString::to_string)))
}

fn state(session: &SessionView) -> String {
    match session.failure_reason.map(FailureReason::as_str) {
        Some(reason) => format!("{} ({reason})", session.state),
        None => session.state.to_string(),
    }
}

fn row(session: &SessionView) -> Vec<String> {
    vec![
        session.session_id.to_string(),
        session.app_id.to_string(),
        person(session),
        state(session),
        time(session.created_at),
        or_dash(session.user_name.as_ref()),
    ]
}

impl List {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<ExitCode> {
        check_registered(context, self.filter.app.as_slice()).await?;
        let after = match self.after {
            Some(id) => {
                let last = context.session(&operator(), context.now(), id).await?;
                Some(SessionCursor { created_at: last.created_at, id })
            }
            None => None,
        };
        // One more than requested shows whether there is another page.
        let mut sessions = context
            .list_sessions(&operator(), context.now(), &self.filter.of_store(), after, self.limit + 1)
            .await?;
        let has_more = sessions.len() > self.limit as usize;
        sessions.truncate(self.limit as usize);
        let sessions: Vec<SessionView> = sessions.into_iter().map(SessionView::from).collect();
        let headers = ["SESSION", "APP", "PERSON", "STATE", "CREATED", "NAME"];
        format.list(&sessions, &headers, row)?;
        if let Some(last) = sessions.last().filter(|_| has_more) {
            report::note(&format!("There are more: add --after {}", last.session_id));
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn show(context: &Context, id: SessionId, format: Format) -> anyhow::Result<ExitCode> {
    let session = SessionView::from(context.session(&operator(), context.now(), id).await?);
    let mut fields = vec![
        ("session_id", session.session_id.to_string()),
        ("app_id", session.app_id.to_string()),
        ("open_id", or_dash(session.open_id.as_ref())),
        ("user_id", or_dash(session.user_id.as_ref())),
        ("user_name", or_dash(session.user_name.as_ref())),
        ("auth_method", session.auth_method.to_string()),
        ("state", state(&session)),
        ("scopes", session.scopes.join(" ")),
        ("card_sent", if session.card_sent { "yes" } else { "no" }.to_owned()),
        ("created_at", time(session.created_at)),
        ("expires_at", time(session.expires_at)),
        ("completed_at", or_dash(session.completed_at.map(time))),
    ];
    if let Some(reason) = session.failure_reason {
        fields.push(("help", follow::help(reason).to_owned()));
    }
    format.one(&session, &fields)?;
    Ok(ExitCode::SUCCESS)
}

impl Watch {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<ExitCode> {
        match self.id {
            Some(id) => self.one(context, id, format).await,
            None => self.all(context, format).await,
        }
    }

    async fn one(&self, context: &Context, id: SessionId, format: Format) -> anyhow::Result<ExitCode> {
        let at_most = Duration::from_secs(self.seconds.unwrap_or(DEFAULT_LIMIT));
        let seen = |step| {
            if format == Format::Text {
                follow::report_step(step);
            }
        };
        let ended = follow::until_end(context, id, at_most, seen).await?;
        let code = follow::exit_code(&ended);
        match format {
            Format::Text => follow::report_end(&ended),
            Format::Json => output::json_line(&SessionView::from(ended))?,
        }
        Ok(code)
    }

    async fn all(&self, context: &Context, format: Format) -> anyhow::Result<ExitCode> {
        check_registered(context, self.filter.app.as_slice()).await?;
        // The state is compared here, so that leaving a state shows as a change too.
        let filter = SessionFilter { state: None, ..self.filter.of_store() };
        let until = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        report::note("watching; stop it with Ctrl-C");
        let mut known = HashMap::new();
        loop {
            let newest =
                context.list_sessions(&operator(), context.now(), &filter, None, MAX_WATCHED).await?;
            let mut seen = HashMap::with_capacity(newest.len());
            for session in newest.into_iter().rev().map(SessionView::from) {
                let now = (session.state, session.card_sent);
                seen.insert(session.session_id, now);
                let changed = known.get(&session.session_id) != Some(&now);
                if changed && self.filter.state.is_none_or(|wanted| wanted == session.state) {
                    match format {
                        Format::Text => output::text_out(&format!("{}\n", row(&session).join("\t")))?,
                        Format::Json => output::json_line(&session)?,
                    }
                }
            }
            known = seen;
            let next = Instant::now() + POLL_INTERVAL;
            match until {
                Some(until) if until <= next => {
                    tokio::time::sleep_until(until).await;
                    return Ok(ExitCode::SUCCESS);
                }
                _ => tokio::time::sleep_until(next).await,
            }
        }
    }
}
