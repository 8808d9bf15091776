"""A Prometheus with the rules of deploy/, whose alerts wait for seconds instead of minutes."""

import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path

from .http import ask, eventually
from .stack import free_port

RULES = Path("deploy/prometheus/rules")
# Written out instead of copied: the targets of deploy/prometheus/prometheus.yml are names of the compose stack. Static ones, as there.
CONFIGURATION = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
  external_labels: {{runbooks: docs/operations/runbooks.md}}
rule_files: [rules/*.yml]
scrape_configs:
{jobs}
"""


class Prometheus:
    def __init__(self, folder, targets):
        """`targets`: ports by the name of the job."""
        self.folder = Path(folder) / "prometheus"
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.began = time.time()
        (self.folder / "rules").mkdir(parents=True)
        for rules in RULES.glob("*.yml"):
            text = re.sub(r"(?m)^(\s+)for: \S+$", r"\1for: 2s", rules.read_text())
            (self.folder / "rules" / rules.name).write_text(text)
        jobs = "\n".join(
            f"  - {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}" for job, port in targets.items()
        )
        (self.folder / "prometheus.yml").write_text(CONFIGURATION.format(jobs=jobs))
        self.process = None

    def start(self):
        log = open(self.folder / "log", "wb")  # noqa: SIM115 # the process keeps it
        command = [
            shutil.which("prometheus"),
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--enable-feature=exemplar-storage",
        ]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        eventually("Prometheus is ready", lambda: ask("GET", f"{self.base}/-/ready").status == 200)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=20)

    def get(self, path, **parameters):
        answer = ask("GET", f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        document = json.loads(answer.text)
        if document.get("status") != "success":
            raise ValueError(f"{path} {parameters}: {answer.text}")
        return document["data"]

    def now(self, expr):
        """Returns labels and value of every sample."""
        found = self.get("query", query=expr)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    def over_all(self, expr, step=2):
        """Returns the series from the start until now, without what is no number."""
        found = self.get("query_range", query=expr, start=self.began, end=time.time(), step=step)["result"]
        series = []
        for one in found:
            points = [(float(at), float(value)) for at, value in one["values"]]
            points = [(at, value) for at, value in points if math.isfinite(value)]
            if points:
                series.append((one["metric"], points))
        return series

    def rules(self, kind):
        groups = self.get("rules", type=kind)["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def fired(self):
        """Returns the names of the alerts that have fired since the start."""
        return {labels["alertname"] for labels, _ in self.over_all('ALERTS{alertstate="firing"}', 1)}

    def is_firing(self, alert):
        return any(labels["alertname"] == alert for labels, _ in self.now('ALERTS{alertstate="firing"}'))
