"""Measures reads of a token against PostgreSQL's own benchmark, and draws the result. For scripts/performance.

  performance.py LARKAUTH PACED DATABASE-URL DRAWING   prints the section of docs/performance.md and writes the SVG
"""

import hashlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LARKAUTH, PACED, SERVER, DRAWING = sys.argv[1:]
APP = "cli_0123456789abcdef"
CONNECTIONS = (8, 32)
ROUNDS = int(os.environ.get("PERFORMANCE_ROUNDS", "3"))
SECONDS = int(os.environ.get("PERFORMANCE_SECONDS", "5"))


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


class Servers:
    """A database of its own, a simulated Lark, and `larkauth standalone` with a token to read."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []
        self.database = f"larkauth_performance_{os.getpid()}"
        run("psql", "-qX", SERVER, "-c", f"create database {self.database}")
        self.url = re.sub(r"(//[^/]*/)[^?]*", rf"\1{self.database}", SERVER)
        self.port, sim = free_port(), free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        secret = secrets.token_hex(16)
        redirect = f"{self.base}/oauth/callback"
        self.start(["sim", "--addr", f"127.0.0.1:{sim}", "--app-id", APP, "--redirect-uri", redirect], SIM_APP_SECRET=secret)
        self.sim = f"http://127.0.0.1:{sim}"
        wait_for(f"{self.sim}/_sim/state")
        # Warnings only, as the baseline logs no statement either; the audit log's records go to the database.
        self.settings = {
            "DATA_DIR": f"{folder}/data", "HTTP_ADDR": f"127.0.0.1:{self.port}", "DATABASE_URL": self.url,
            "APP_ID": APP, "APP_SECRET": secret, "LARK_BASE_URL": self.sim, "LARK_ACCOUNTS_URL": self.sim,
            "OAUTH_REDIRECT_URI": redirect, "API_KEY": secrets.token_hex(16), "RUST_LOG": "warn",
        }
        run(LARKAUTH, "migrate", env={"PATH": os.environ["PATH"], "DATABASE_URL": self.url}, stderr=subprocess.DEVNULL)
        self.standalone()
        self.person = self.consent()
        self.key = self.own_key()
        self.path = f"/v1/apps/{APP}/users/{self.person}/token"

    def start(self, arguments, **settings):
        log = open(f"{self.folder}/log", "a", encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], **settings}
        self.running.append(subprocess.Popen([LARKAUTH, *arguments], env=environment, stdout=log, stderr=log))
        return self.running[-1]

    def standalone(self, **settings):
        process = self.start(["standalone"], **self.settings, **settings)
        wait_for(f"{self.base}/readyz")
        return process

    def restart(self, **settings):
        process = self.running.pop()
        process.terminate()
        process.wait()
        return self.standalone(**settings)

    def consent(self):
        """Sends one person through the whole authorization."""
        bootstrap = self.settings["API_KEY"]
        person = re.search(r'"(ou_[^"]+)"', json.dumps(ask(f"{self.sim}/_sim/users")))[1]
        session = {"app_id": APP, "open_id": person, "auth_method": "oauth"}
        created = ask(f"{self.base}/v1/auth/sessions", session, bootstrap)
        ask(f"{self.sim}/_sim/consent", {"url": created["authorize_url"], "open_id": person, "follow": True})
        ended = ask(f"{self.base}/v1/auth/sessions/{created['session_id']}?wait=20", key=bootstrap)
        assert ended["state"] == "completed", ended
        return person

    def own_key(self):
        """Stores an API key, as `larkauth keys create` does; that command would need a broker too."""
        key = f"lak_{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        run("psql", "-qX", self.url, "-c",
            "insert into api_keys (key_id, name, scopes, key_sha256, created_at) "
            f"values (gen_random_uuid(), 'performance', '{{tokens:read}}', decode('{digest}', 'hex'), now())")
        return key

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait()
        run("psql", "-qX", SERVER, "-c", f"drop database {self.database} with (force)")


def pgbench(servers, connections):
    """Returns reads per second of the row of the token, as `pgbench -S` reads its own."""
    script = f"{servers.folder}/read.sql"
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"select access_token_sealed, generation from access_tokens where app_id = '{APP}' "
                   f"and open_id = '{servers.person}' and kind = 'user';\n")
    out = run("pgbench", "-n", "-M", "prepared", "-c", str(connections), "-T", str(SECONDS), "-f", script, servers.url,
              stderr=subprocess.DEVNULL)
    rate = re.search(r"tps = ([\d.]+)", out)
    assert rate, out
    return float(rate[1])


def wrk(url, connections, key=None):
    """Returns requests per second, and the 50th and 99th percentile of their times in milliseconds, as fast as it goes."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", url]
    if key:
        command += ["-H", f"Authorization: Bearer {key}"]
    out = run(*command)
    assert "Non-2xx" not in out, out
    units = {"us": 0.001, "ms": 1, "s": 1000}
    at = {p: float(n) * units[u] for p, n, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", out)}
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), at["50"], at["99"]


def paced(servers, rate, connections=8):
    request = (f"GET {servers.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {servers.key}\r\n\r\n")
    out = run(PACED, f"127.0.0.1:{servers.port}", str(connections), str(rate), str(SECONDS), input=request)
    result = json.loads(out)
    assert result["failed"] == 0, result
    return result["p50_us"] / 1000, result["p99_us"] / 1000


def median(values):
    return sorted(values)[len(values) // 2]


def measure(servers):
    """All kinds of one round after each other, so that what else the machine does hits them alike. Medians of the rounds."""
    rounds = {}

    def note(name, connections, values):
        rounds.setdefault((name, connections), []).append(values)

    for _ in range(ROUNDS):
        for name, settings in (("cached", {}), ("uncached", {"TOKEN_CACHE_SIZE": "0"})):
            servers.restart(**settings)
            ask(servers.base + servers.path, key=servers.key)
            for connections in CONNECTIONS:
                if name == "cached":
                    note("pgbench", connections, (pgbench(servers, connections),))
                    note("healthz", connections, wrk(f"{servers.base}/healthz", connections))
                note(name, connections, wrk(servers.base + servers.path, connections, servers.key))
            peak = max(rounds[name, connections][-1][0] for connections in CONNECTIONS)
            note(f"{name} at half", 8, paced(servers, peak / 2))
    return {key: [median(column) for column in zip(*values)] for key, values in rounds.items()}


def svg(result):
    """Draws requests per second as bars."""
    names = [("pgbench", "PostgreSQL alone (pgbench)", "#8a8f98"), ("uncached", "token, uncached", "#c98a2b"),
             ("cached", "token, cached", "#2f6fde"), ("healthz", "/healthz", "#b9c0ca")]
    most = max(values[0] for (name, _), values in result.items() if " at " not in name)
    rows, y = [], 46
    for connections in CONNECTIONS:
        rows.append(f'<text x="16" y="{y}" class="h">{connections} connections</text>')
        y += 10
        for name, label, colour in names:
            value = result[name, connections][0]
            width = 360 * value / most
            rows.append(f'<rect x="190" y="{y}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>')
            rows.append(f'<text x="182" y="{y + 11}" text-anchor="end">{label}</text>')
            rows.append(f'<text x="{196 + width:.1f}" y="{y + 11}">{value / 1000:.1f}k/s</text>')
            y += 19
        y += 22
    style = "text{font:12px system-ui,sans-serif;fill:#30343a}.h{font-weight:600}.t{font-size:14px;font-weight:600}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" viewBox="0 0 640 {y}" role="img" '
            f'aria-label="Reads of a token per second"><style>{style}</style>'
            f'<rect width="640" height="{y}" fill="#fff"/><text x="16" y="24" class="t">Reads per second</text>'
            + "".join(rows) + "</svg>\n")


def section(result):
    best = {name: max(result[name, c][0] for c in CONNECTIONS) for name in ("pgbench", "cached", "uncached", "healthz")}
    lines = ["| connections | pgbench | uncached | cached | `/healthz` |", "| --- | --- | --- | --- | --- |"]
    for c in CONNECTIONS:
        cells = [f"{result['pgbench', c][0] / 1000:.1f}k/s"]
        for name in ("uncached", "cached", "healthz"):
            rate, p50, p99 = result[name, c]
            cells.append(f"{rate / 1000:.1f}k/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        lines.append(f"| {c} | " + " | ".join(cells) + " |")
    half = {name: result[f"{name} at half", 8] for name in ("cached", "uncached")}
    lines += ["", "| | peak | against pgbench | goal | at half of the peak, 8 connections | goal |",
              "| --- | --- | --- | --- | --- | --- |"]
    for name, goal in (("cached", 1.5), ("uncached", 0.6)):
        p50, p99 = half[name]
        lines.append(f"| {name} | {best[name] / 1000:.1f}k/s | {best[name] / best['pgbench']:.2f} | at least {goal} | "
                     f"p50 {p50:.2f} ms, p99 {p99:.2f} ms | p99 at most 5 ms |")
    return "\n".join(lines)


with tempfile.TemporaryDirectory() as scratch:
    servers = Servers(scratch)
    try:
        measured = measure(servers)
    except BaseException:
        with open(f"{scratch}/log", encoding="utf-8") as log:
            sys.stderr.write(log.read()[-3000:])
        raise
    finally:
        servers.stop()
with open(DRAWING, "w", encoding="utf-8") as drawing:
    drawing.write(svg(measured))
print(section(measured))
