"""The board *overview*."""

from .panels import APP, READ, SERVICES, Board, Panel, gauge, graph, quantiles, rate, stat

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
