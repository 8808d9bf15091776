"""What the Grafana boards show. scripts/grafana-boards writes them as JSON, scripts/test-observability asks their queries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    title: str
    # What the panel says, and what to do with it; shown when the pointer is on its title.
    text: str
    # Legend and query.
    queries: list
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    # `bad`: red from 1 on. `good`: red below 1.
    colour: str | None = None
    # A state rather than a measured curve.
    steps: bool = False
    decimals: int | None = None


@dataclass(frozen=True)
class Board:
    name: str
    title: str
    text: str
    # Title and panels.
    rows: list
    has_app: bool = True


SERVICES = 'job=~"gateway|auth-worker|token-refresher"'
APP = 'app_id=~"$app"'
READ = 'route="/v1/apps/{app_id}/users/{open_id}/token",method="GET"'


def stat(title, text, expr, legend="", **other):
    return Panel(title, text, [(legend, expr)], kind="stat", width=other.pop("width", 4), **other)


def graph(title, text, *queries, **other):
    return Panel(title, text, list(queries), **other)


def rate(metric, labels, by):
    return f"sum by ({by}) (rate(lark_service_{metric}{{{labels}}}[$__rate_interval]))"


def quantiles(metric, labels="", by=""):
    """The median and the 99th percentile of a histogram."""
    inner = f"sum by ({by + ', ' if by else ''}le) (rate(lark_service_{metric}_bucket{{{labels}}}[$__rate_interval]))"
    legend = f" {{{{{by}}}}}" if by else ""
    return [(f"p50{legend}", f"histogram_quantile(0.5, {inner})"), (f"p99{legend}", f"histogram_quantile(0.99, {inner})")]


def gauge(metric, labels, by):
    """A gauge that several processes set to the same value."""
    return f"max by ({by}) (lark_service_{metric}{{{labels}}})"


OVERVIEW = Board(
    "overview",
    "overview",
    "Whether larkauth does what people and services expect. Start here.",
    [
        (
            "Promises",
            [
                stat(
                    "Clicks answered, 24 h",
                    "Callbacks answered in time, without “please try again”. The objective is 99.9 %.",
                    "1 - lark_service:clicks_answered_errors:ratio_rate1d",
                    unit="percentunit",
                    decimals=3,
                ),
                stat(
                    "Token reads served, 24 h",
                    "Reads without an error of the server. The objective is 99.9 %.",
                    "1 - lark_service:token_reads_served_errors:ratio_rate1d",
                    unit="percentunit",
                    decimals=3,
                ),
                stat(
                    "Applications heard",
                    "Applications whose clicks arrive over a long connection.",
                    f"sum(max by (app_id) (lark_service_websocket_connection_status{{{APP}}}))",
                    colour="good",
                ),
                stat(
                    "Breakers open",
                    "Applications that Lark refuses. No person is invited meanwhile.",
                    f"sum(max by (app_id) (lark_service_app_breaker_open{{{APP}}}))",
                    colour="bad",
                ),
                stat(
                    "Dead letters",
                    "Messages that wait for an operator: `larkauth dead-letters list`.",
                    'max(lark_service_bus_queue_messages{queue="dead-letters"})',
                    colour="bad",
                ),
                stat(
                    "Pairs in the spool",
                    "New tokens that neither database nor broker took. They must reach the database before the disk is given up.",
                    "sum(lark_service_token_spool_entries)",
                    colour="bad",
                ),
                graph(
                    "Burn rate of the error budgets",
                    "1 uses up the budget of 30 days in 30 days. The alerts are on 14.4 over an hour, and on 6 over six hours.",
                    ("clicks, 1 h", "lark_service:clicks_answered_errors:ratio_rate1h / 0.001"),
                    ("reads, 1 h", "lark_service:token_reads_served_errors:ratio_rate1h / 0.001"),
                ),
                Panel(
                    "Alerts that fire",
                    "Each has a runbook: docs/operations/runbooks.md.",
                    [("", 'ALERTS{alertname=~"Larkauth.*",alertstate="firing"}')],
                    kind="table",
                ),
            ],
        ),
        (
            "People",
            [
                graph(
                    "Authorizations",
                    "Sessions that were created, and how they ended.",
                    ("created", f"sum(rate(lark_service_auth_session_total{{{APP}}}[$__rate_interval])) * 60"),
                    ("completed", f"sum(rate(lark_service_auth_success_total{{{APP}}}[$__rate_interval])) * 60"),
                    ("expired", f"sum(rate(lark_service_auth_session_expired_total{{{APP}}}[$__rate_interval])) * 60"),
                    ("not completed", f"sum(rate(lark_service_auth_failure_total{{{APP}}}[$__rate_interval])) * 60"),
                    unit="opm",
                ),
                graph(
                    "Pending sessions and served tokens",
                    "People who are being asked, and people who can be acted for.",
                    ("pending", f"sum({gauge('auth_session_active', APP, 'app_id')})"),
                    ("tokens", f"sum({gauge('token_active_count', APP, 'app_id')})"),
                    steps=True,
                ),
            ],
        ),
        (
            "Services",
            [
                graph(
                    "Token reads by status",
                    "404: the person has no token. 503: no valid one is left.",
                    ("{{status}}", rate("http_requests_total", READ, "status")),
                    unit="reqps",
                ),
                graph(
                    "Time of a token read",
                    "Reads that refresh the token first wait for Lark.",
                    *quantiles("http_request_seconds", 'route="/v1/apps/{app_id}/users/{open_id}/token"'),
                    unit="s",
                ),
            ],
        ),
        (
            "Processes",
            [
                graph(
                    "Processes that answer",
                    "Of each service.",
                    ("{{job}}", f"sum by (job) (up{{{SERVICES}}})"),
                    steps=True,
                ),
                Panel(
                    "Versions",
                    "What runs where.",
                    [("", "lark_service_build_info")],
                    kind="table",
                ),
            ],
        ),
    ],
)

CONNECTION = Board(
    "connection",
    "long connection and callbacks",
    "How clicks get in, and how they are answered.",
    [
        (
            "Long connection",
            [
                graph(
                    "Long connections that are up",
                    "Gateways that are connected, of each application. 0: no gateway hears its clicks.",
                    ("{{app_id}}", f"sum by (app_id) (lark_service_websocket_connection_status{{{APP}}})"),
                    steps=True,
                ),
                graph(
                    "HTTP callbacks instead",
                    "1 while HTTP callbacks replace the long connection of a gateway.",
                    ("{{app_id}} {{instance}}", f"lark_service_websocket_fallback_active{{{APP}}}"),
                    steps=True,
                ),
                graph(
                    "Attempts to connect",
                    "By outcome. `connected` again and again means that connections are lost.",
                    ("{{outcome}}", f"{rate('websocket_reconnect_total', APP, 'outcome')} * 60"),
                    unit="opm",
                ),
                graph(
                    "Clicks on sessions that are not known",
                    "Cards of another installation, or a database that was restored.",
                    ("{{app_id}}", f"{rate('unknown_session_clicks_total', APP, 'app_id')} * 60"),
                    unit="opm",
                ),
            ],
        ),
        (
            "Callbacks",
            [
                graph(
                    "Callbacks by outcome",
                    "`in_time`: the card changed in the answer. `late`: “working on it”. `publish_failed`: “please try again”.",
                    ("{{outcome}}", rate("callback_answer_seconds_count", APP, "outcome")),
                    unit="reqps",
                ),
                graph(
                    "Time of an answer",
                    "Lark waits 3 s.",
                    *quantiles("callback_answer_seconds", APP),
                    unit="s",
                ),
                graph(
                    "Events of other programs",
                    "By type; larkauth passes them on and keeps none.",
                    ("{{event_type}}", f"{rate('foreign_events_total', APP, 'event_type')} * 60"),
                    unit="opm",
                ),
                graph(
                    "Events passed on",
                    "By destination and outcome.",
                    ("{{destination}} {{outcome}}", f"{rate('event_relay_total', APP, 'destination, outcome')} * 60"),
                    unit="opm",
                ),
            ],
        ),
        (
            "Authorizations",
            [
                graph(
                    "Not completed, by reason",
                    "`rejected` is a person's choice. See docs/troubleshooting for the others.",
                    ("{{reason}}", f"{rate('auth_failure_total', APP, 'reason')} * 60"),
                    unit="opm",
                ),
                graph(
                    "From the invitation to the stored token",
                    "Mostly the time that a person takes.",
                    *quantiles("auth_duration_seconds", APP),
                    unit="s",
                ),
            ],
        ),
    ],
)

TOKENS = Board(
    "tokens",
    "tokens and refresh",
    "Whether tokens stay alive, and who is about to lose access: `larkauth horizon` names them.",
    [
        (
            "Tokens",
            [
                graph(
                    "Tokens by state",
                    "Active ones are served. Suspended: Lark refuses the person. Unknown: the answer to a refresh was lost.",
                    ("active", f"sum({gauge('token_active_count', APP, 'app_id')})"),
                    ("suspended", f"sum({gauge('token_suspended_count', APP, 'app_id')})"),
                    ("outcome unknown", f"sum({gauge('token_outcome_unknown_count', APP, 'app_id')})"),
                    steps=True,
                ),
                graph(
                    "Consents that end",
                    "Lark ends each consent after 365 days. Within 14 days people are asked; within 3 they did not answer.",
                    ("within {{within}}", f"sum by (within) ({gauge('token_consent_ending_count', APP, 'app_id, within')})"),
                    steps=True,
                ),
                graph(
                    "Pairs in the spool",
                    "New tokens in files of a process, because neither database nor broker took them.",
                    ("{{instance}}", "lark_service_token_spool_entries"),
                    steps=True,
                ),
                graph(
                    "Changes followed",
                    "1 while the database announces changes to a gateway. 0: each token is read from the database again every second.",
                    ("{{instance}}", "lark_service_changes_followed"),
                    steps=True,
                ),
            ],
        ),
        (
            "Refresh",
            [
                graph(
                    "Refreshes by outcome",
                    "`outcome_unknown`: the answer was lost. `app_refused` opens the breaker.",
                    ("{{outcome}}", f"{rate('token_refresh_total', APP, 'outcome')} * 60"),
                    unit="opm",
                ),
                graph(
                    "Oldest refresh that is due",
                    "How long it has waited. It grows when the calls that Lark permits do not suffice, or Lark refuses.",
                    ("{{app_id}}", gauge("token_refresh_overdue_seconds", APP, "app_id")),
                    unit="s",
                ),
                graph(
                    "From due to refreshed",
                    "Of the refreshes that were made.",
                    *quantiles("token_refresh_lag_seconds", APP),
                    unit="s",
                ),
                graph(
                    "Refreshes that came too late",
                    "access_token: reads waited for Lark. login: the person must consent again.",
                    ("{{what}}", f"{rate('token_refresh_late_total', APP, 'what')} * 60"),
                    unit="opm",
                ),
            ],
        ),
        (
            "People",
            [
                graph(
                    "Suspended and restored",
                    "Lark refuses these people, or accepts them again.",
                    ("suspended: {{reason}}", f"{rate('user_suspended_total', APP, 'reason')} * 60"),
                    ("restored", f"sum(rate(lark_service_user_restored_total{{{APP}}}[$__rate_interval])) * 60"),
                    unit="opm",
                ),
                graph(
                    "Asked again",
                    "People whose login has ended, or ends soon, by what became of asking them.",
                    ("{{outcome}}", f"{rate('reauthorization_total', APP, 'outcome')} * 60"),
                    unit="opm",
                ),
                graph(
                    "People looked up at Lark",
                    "By outcome; with USER_INFO_SYNC_ENABLED.",
                    ("{{outcome}}", f"{rate('user_sync_total', APP, 'outcome')} * 60"),
                    unit="opm",
                ),
                graph(
                    "Passes over all people",
                    "How many people the current pass has left, and passes that ended in an hour.",
                    ("left", f"sum({gauge('user_sync_left', APP, 'app_id')})"),
                    ("ended: {{outcome}}", f"sum by (outcome) (increase(lark_service_user_sync_pass_total{{{APP}}}[1h]))"),
                ),
            ],
        ),
    ],
)

BUS = Board(
    "bus",
    "bus, workers and database",
    "Whether messages get through, and what the processes have left.",
    [
        (
            "Queues",
            [
                graph(
                    "Messages that wait",
                    "With those of the isolated queue. Dead letters wait for an operator.",
                    ("{{queue}}", gauge("bus_queue_messages", "", "queue")),
                    steps=True,
                ),
                graph(
                    "Consumers",
                    "Processes that consume a queue. 0: what is published waits.",
                    ("{{queue}}", gauge("bus_queue_consumers", "", "queue")),
                    steps=True,
                ),
                graph(
                    "From publishing to handling",
                    "How long messages wait; deliberate delays are not counted.",
                    ("p50 {{queue}}", quantiles("bus_lag_seconds", by="queue")[0][1]),
                    ("p99 {{queue}}", quantiles("bus_lag_seconds", by="queue")[1][1]),
                    unit="s",
                ),
                graph(
                    "Time to handle a message",
                    "With the calls of Lark in it.",
                    *quantiles("bus_handle_seconds", by="queue"),
                    unit="s",
                ),
            ],
        ),
        (
            "Messages",
            [
                graph(
                    "Published, by outcome",
                    "`unavailable`: the broker did not confirm.",
                    ("{{outcome}}", rate("bus_publish_total", "", "outcome")),
                    unit="ops",
                ),
                graph(
                    "From publishing to the confirm",
                    "The broker has the message on disk then.",
                    *quantiles("bus_publish_seconds"),
                    unit="s",
                ),
                graph(
                    "Handled, by outcome",
                    "`retry` comes again after a delay, `dead` is a dead letter.",
                    ("{{queue}} {{outcome}}", rate("bus_consumed_total", "", "queue, outcome")),
                    unit="ops",
                ),
                graph(
                    "Retries, dead letters, isolated",
                    "Isolated: delivered before, handled alone.",
                    ("retry {{queue}}", f"{rate('bus_retries_total', '', 'queue')} * 60"),
                    ("dead {{queue}}: {{reason}}", f"{rate('bus_dead_letters_total', '', 'queue, reason')} * 60"),
                    ("isolated {{queue}}", f"{rate('bus_isolated_total', '', 'queue')} * 60"),
                    unit="opm",
                ),
            ],
        ),
        (
            "Broker",
            [
                graph(
                    "Connected",
                    "1 while a process has a connection to the broker.",
                    ("{{job}} {{instance}}", "lark_service_bus_up"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "Blocked",
                    "1 while the broker takes no messages, because it is short of memory or disk.",
                    ("{{job}} {{instance}}", "lark_service_bus_blocked"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "What RabbitMQ has left",
                    "It blocks at 0.",
                    ("memory {{instance}}", "rabbitmq_resident_memory_limit_bytes - rabbitmq_process_resident_memory_bytes"),
                    ("disk {{instance}}", "rabbitmq_disk_space_available_bytes - rabbitmq_disk_space_available_limit_bytes"),
                    unit="bytes",
                    width=8,
                ),
            ],
        ),
        (
            "Database",
            [
                graph(
                    "Answers and takes writes",
                    "The lowest of all processes. Without writes tokens are served, and nothing else goes on.",
                    ("answers", "min(lark_service_database_up)"),
                    ("takes writes", "min(lark_service_database_writable)"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "Size",
                    "Of the whole database.",
                    ("size", "max(lark_service_database_size_bytes)"),
                    unit="bytes",
                    width=8,
                ),
                graph(
                    "Connections in use",
                    "Of DATABASE_MAX_CONNECTIONS, of each process.",
                    ("{{job}} {{instance}}", 'lark_service_database_pool_connections{state="used"}'),
                    ("limit", "max(lark_service_database_pool_limit)"),
                    width=8,
                ),
            ],
        ),
        (
            "Processes",
            [
                graph(
                    "Memory",
                    "Resident, of each process.",
                    ("{{job}} {{instance}}", f"process_resident_memory_bytes{{{SERVICES}}}"),
                    unit="bytes",
                    width=8,
                ),
                graph(
                    "Processor",
                    "Cores in use, of each process.",
                    ("{{job}} {{instance}}", f"rate(process_cpu_seconds_total{{{SERVICES}}}[$__rate_interval])"),
                    width=8,
                ),
                graph(
                    "Open files",
                    "Sockets are files.",
                    ("{{job}} {{instance}}", f"process_open_fds{{{SERVICES}}}"),
                    width=8,
                ),
                graph(
                    "Audit records in the log only",
                    "The database did not take them in time.",
                    ("{{job}} {{instance}}", "increase(lark_service_audit_dropped_total[$__rate_interval])"),
                ),
                graph(
                    "Encryption keys that are missing",
                    "Stored values may need them. A process that lacks one is not ready.",
                    ("{{job}} {{instance}}", "lark_service_encryption_keys_missing"),
                    steps=True,
                ),
            ],
        ),
    ],
    has_app=False,
)

LARK = Board(
    "lark",
    "Lark API and budgets",
    "What larkauth asks of Lark, what Lark answers, and how much of Lark's limits is used.",
    [
        (
            "Calls",
            [
                graph(
                    "Calls by API",
                    "Each attempt counts.",
                    ("{{api}}", rate("lark_api_calls_total", APP, "api")),
                    unit="reqps",
                ),
                graph(
                    "Calls that failed, by outcome",
                    "`code_…` is Lark's code. `not_sent`: larkauth's own limit.",
                    ("{{api}} {{outcome}}", rate("lark_api_calls_total", f'{APP},outcome!="ok"', "api, outcome")),
                    unit="reqps",
                ),
                graph(
                    "Time of a call",
                    "The 99th percentile, by API.",
                    ("{{api}}", quantiles("lark_api_seconds", by="api")[1][1]),
                    unit="s",
                ),
                graph(
                    "Median time of a call",
                    "By API.",
                    ("{{api}}", quantiles("lark_api_seconds", by="api")[0][1]),
                    unit="s",
                ),
            ],
        ),
        (
            "Budgets",
            [
                graph(
                    "Share of the budget in use",
                    "Of 983 calls a minute, of each application and class of endpoint, over all processes.",
                    (
                        "{{app_id}} {{class}}",
                        "sum by (app_id, class) (rate(lark_service_lark_api_budget_total{"
                        + APP
                        + ',outcome="granted"}[$__rate_interval])) * 60 / 983',
                    ),
                    unit="percentunit",
                ),
                graph(
                    "Calls asked of the budget",
                    "People overtake the background. `refused` in the lane of people: a person waits, or is refused.",
                    ("{{lane}} {{outcome}}", rate("lark_api_budget_total", APP, "lane, outcome")),
                    unit="ops",
                ),
            ],
        ),
        (
            "Applications",
            [
                graph(
                    "Breakers",
                    "1 while Lark refuses the application.",
                    ("{{app_id}}", gauge("app_breaker_open", APP, "app_id")),
                    steps=True,
                ),
                graph(
                    "Refreshes by outcome",
                    "`app_refused` opens the breaker; the next success closes it.",
                    ("{{outcome}}", f"{rate('token_refresh_total', APP, 'outcome')} * 60"),
                    unit="opm",
                ),
            ],
        ),
    ],
)

BOARDS = [OVERVIEW, CONNECTION, TOKENS, BUS, LARK]

# The time of a start is its value.
ANNOTATIONS = {
    "deployments": f"process_start_time_seconds{{{SERVICES}}} * 1000"
    f" * on (job, instance) group_left (version) lark_service_build_info{{{SERVICES}}}",
    "alerts": 'ALERTS{alertname=~"Larkauth.*",alertstate="firing",severity="critical"}',
}
