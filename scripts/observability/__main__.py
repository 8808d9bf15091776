"""Runs the scenario, and then asks every query of every board and every rule."""

import argparse
import re
import signal
import sys
import time

import boards

from .picture import draw
from .prometheus import Prometheus
from .scenario import Scenario, say
from .stack import Stack

# Alerts whose cause cannot be brought about here in minutes, and why.
NOT_FIRED = {
    "LarkauthTokenNotKept": "needs a disk that refuses the spool at the moment at which database and broker refuse the pair",
    "LarkauthDatabasePoolExhausted": "needs five minutes in which no connection is free",
}


def of_board(board):
    """Title, query, and whether it is asked for the present only."""
    for _, row in board.rows:
        for panel in row:
            for legend, expr in panel.queries:
                yield f"{board.name} / {panel.title} / {legend}", expr


def filled_in(expr):
    """As Grafana does for all applications and a scrape interval of 1 s."""
    return expr.replace("$__rate_interval", "10s").replace("$app", ".*")


def check_queries(prometheus):
    empty = []
    asked = 0
    for board in boards.BOARDS:
        for name, expr in of_board(board):
            asked += 1
            if not prometheus.over_all(filled_in(expr)):
                empty.append(name)
    for annotation in boards.ANNOTATIONS.values():
        asked += 1
        if not prometheus.over_all(annotation):
            empty.append(annotation)
    for rule in prometheus.rules("record"):
        asked += 1
        if rule["health"] != "ok" or not prometheus.over_all(rule["name"]):
            empty.append(rule["name"])
    say(f"{asked} queries of boards and recording rules, {len(empty)} without data")
    return [f"no data: {name}" for name in empty]


def check_alerts(prometheus, seen):
    rules = prometheus.rules("alert")
    known = {rule["name"] for rule in rules}
    fired = prometheus.fired() | seen
    missing = sorted(known - fired - set(NOT_FIRED))
    say(f"{len(known & fired)} of {len(known)} alerts fired: {', '.join(sorted(known & fired))}")
    for name, why in NOT_FIRED.items():
        say(f"not fired: {name}, which {why}")
    problems = [f"did not fire: {name}" for name in missing]
    problems += [f"fires in fact, so NOT_FIRED is wrong: {name}" for name in sorted(fired & set(NOT_FIRED))]
    problems += [f"is no alert: {name}" for name in set(NOT_FIRED) - known]
    problems += [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok"]
    return problems


def check_exemplars(prometheus):
    """Prometheus has the traces of three histograms."""
    for histogram in ("callback_answer_seconds", "lark_api_seconds", "bus_handle_seconds"):
        asked = {"query": f"lark_service_{histogram}_bucket", "start": prometheus.began, "end": time.time()}
        found = [one for series in prometheus.get("query_exemplars", **asked) for one in series["exemplars"]]
        if not any(re.fullmatch("[0-9a-f]{32}", one["labels"].get("trace_id", "")) for one in found):
            yield f"{histogram}: no exemplar with a trace"


def check_labels(prometheus, people):
    """No person is in a label, and no metric has many series."""
    problems = []
    for name in prometheus.get("label/__name__/values"):
        if not name.startswith("lark_service_"):
            continue
        series = prometheus.get("series", **{"match[]": f'{{__name__="{name}"}}', "start": prometheus.began})
        values = {value for labels in series for value in labels.values()}
        is_person = re.compile("|".join([*map(re.escape, people), r"\bo[un]_[0-9a-z]{8,}"]))
        if any(is_person.search(value) for value in values):
            problems.append(f"{name} names a person")
        if len(series) > 1000:
            problems.append(f"{name} has {len(series)} series")
    return problems


def main():
    parser = argparse.ArgumentParser()
    for name in ("binaries", "folder", "database", "broker"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("broker-pid", "broker-metrics", "broker-management"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--picture")
    parser.add_argument("--only", default="", help="names of steps, separated by commas, of the faults; nothing is checked at the end")
    options = parser.parse_args()
    began = time.monotonic()
    # So that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stack = Stack(options)
    prometheus = Prometheus(options.folder, {**stack.ports, "rabbitmq": options.broker_metrics})
    try:
        stack.start()
        prometheus.start()
        scenario = Scenario(stack, prometheus)
        scenario.run(options.only.split(",") if options.only else None)
        if options.only:
            return 1 if scenario.failures else 0
        problems = scenario.failures + check_queries(prometheus) + check_alerts(prometheus, scenario.fired)
        problems += [*check_exemplars(prometheus), *check_labels(prometheus, stack.people)]
        if options.picture:
            draw(prometheus, options.picture, filled_in)
        problems += [f"the simulator recorded a violation: {violation}" for violation in stack.control("GET", "violations")]
    finally:
        prometheus.stop()
        stack.stop()
    for problem in problems:
        print(f"error: {problem}", flush=True)
    say(f"{len(problems)} problems, {time.monotonic() - began:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
