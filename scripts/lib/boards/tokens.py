"""The board *tokens and refresh*."""

from .panels import APP, Board, gauge, graph, quantiles, rate

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
