"""What the Grafana boards show. scripts/grafana-boards writes them as JSON, scripts/test-observability asks their queries."""

from .bus import BUS
from .connection import CONNECTION
from .lark import LARK
from .overview import OVERVIEW
from .panels import SERVICES
from .tokens import TOKENS

BOARDS = [OVERVIEW, CONNECTION, TOKENS, BUS, LARK]

# The time of a start is its value.
ANNOTATIONS = {
    "deployments": f"process_start_time_seconds{{{SERVICES}}} * 1000"
    f" * on (job, instance) group_left (version) lark_service_build_info{{{SERVICES}}}",
    "alerts": 'ALERTS{alertname=~"Larkauth.*",alertstate="firing",severity="critical"}',
}
