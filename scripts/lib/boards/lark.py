"""The board *Lark API and budgets*."""

from .panels import APP, Board, gauge, graph, quantiles, rate

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
