"""Panels, boards, and the queries that several panels share."""

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
