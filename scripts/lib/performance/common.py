"""What the measurements of scripts/performance share: processes, requests, drawings."""

import json
import os
import re
import secrets
import socket
import subprocess
import time
import urllib.request

ROUNDS = int(os.environ.get("PERFORMANCE_ROUNDS", "3"))
SECONDS = int(os.environ.get("PERFORMANCE_SECONDS", "5"))
APP = "cli_0123456789abcdef"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def ask(url, body=None, key=None):
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return json.loads(answer.read() or "null")


def wait_for(url):
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def median(values):
    return sorted(values)[len(values) // 2]


class Processes:
    """Processes of larkauth with one log, and a database of their own."""

    def __init__(self, larkauth, folder, server):
        self.larkauth, self.folder, self.server = larkauth, folder, server
        self.running = []
        self.database = f"larkauth_performance_{os.getpid()}"
        run("psql", "-qX", server, "-c", f"create database {self.database}")
        self.url = re.sub(r"(//[^/]*/)[^?]*", rf"\1{self.database}", server)
        run(larkauth, "migrate", env={"PATH": os.environ["PATH"], "DATABASE_URL": self.url}, stderr=subprocess.DEVNULL)

    def start(self, arguments, settings, program="larkauth"):
        """Starts a program that lies beside `larkauth`, too."""
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            environment = {"PATH": os.environ["PATH"], **settings}
            process = subprocess.Popen([os.path.join(os.path.dirname(self.larkauth), program), *arguments], env=environment, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def simulator(self, redirect):
        """Starts a simulated Lark. Returns its address, and the settings that lead larkauth to it."""
        port, secret = free_port(), secrets.token_hex(16)
        self.start(["sim", "--addr", f"127.0.0.1:{port}", "--app-id", APP, "--redirect-uri", redirect],
                   {"SIM_APP_SECRET": secret})
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/_sim/state")
        # Warnings only, as the baselines log nothing either; the audit log's records go to the database.
        return base, {"APP_ID": APP, "APP_SECRET": secret, "LARK_BASE_URL": base, "LARK_ACCOUNTS_URL": base,
                      "OAUTH_REDIRECT_URI": redirect, "DATABASE_URL": self.url, "RUST_LOG": "warn"}

    def end(self, process):
        self.running.remove(process)
        process.terminate()
        process.wait()

    def stop(self):
        for process in reversed(list(self.running)):
            self.end(process)
        run("psql", "-qX", self.server, "-c", f"drop database {self.database} with (force)")

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8") as log:
            return log.read()[-3000:]


def bars(title, groups, unit="/s"):
    """Draws groups of bars: `[(heading, [(label, value, colour)])]`."""
    most = max(value for _, rows in groups for _, value, _ in rows)
    drawn, y = [], 46
    for heading, rows in groups:
        drawn.append(f'<text x="16" y="{y}" class="h">{heading}</text>')
        y += 10
        for label, value, colour in rows:
            width = 340 * value / most
            drawn.append(f'<rect x="210" y="{y}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>')
            drawn.append(f'<text x="202" y="{y + 11}" text-anchor="end">{label}</text>')
            drawn.append(f'<text x="{216 + width:.1f}" y="{y + 11}">{value / 1000:.1f}k{unit}</text>')
            y += 19
        y += 22
    style = "text{font:12px system-ui,sans-serif;fill:#30343a}.h{font-weight:600}.t{font-size:14px;font-weight:600}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" viewBox="0 0 640 {y}" role="img" '
            f'aria-label="{title}"><style>{style}</style>'
            f'<rect width="640" height="{y}" fill="#fff"/><text x="16" y="24" class="t">{title}</text>'
            + "".join(drawn) + "</svg>\n")
