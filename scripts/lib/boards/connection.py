"""The board *long connection and callbacks*."""

from .panels import APP, Board, graph, quantiles, rate

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
