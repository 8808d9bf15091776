"""Measures reads of a token against PostgreSQL's own benchmark, and draws the result. For scripts/performance.

  reads.py LARKAUTH PACED DATABASE-URL DRAWING   prints the section of docs/performance.md and writes the SVG
"""

import hashlib
import json
import re
import secrets
import subprocess
import sys
import tempfile

from common import APP, ROUNDS, SECONDS, Processes, ask, bars, free_port, median, run, wait_for

LARKAUTH, PACED, SERVER, DRAWING = sys.argv[1:]
CONNECTIONS = (8, 32)


class Servers(Processes):
    """A simulated Lark, and `larkauth standalone` with a token to read."""

    def __init__(self, folder):
        super().__init__(LARKAUTH, folder, SERVER)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.sim, settings = self.simulator(f"{self.base}/oauth/callback")
        self.settings = {**settings, "DATA_DIR": f"{folder}/data", "HTTP_ADDR": f"127.0.0.1:{self.port}",
                         "API_KEY": secrets.token_hex(16)}

    def begin(self):
        self.process = self.standalone()
        self.person = self.consent()
        self.key = self.own_key()
        self.path = f"/v1/apps/{APP}/users/{self.person}/token"

    def standalone(self, **settings):
        process = self.start(["standalone"], {**self.settings, **settings})
        wait_for(f"{self.base}/readyz")
        return process

    def restart(self, **settings):
        self.end(self.process)
        self.process = self.standalone(**settings)

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


def paced(servers, rate, connections):
    request = (f"GET {servers.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {servers.key}\r\n\r\n")
    out = run(PACED, f"127.0.0.1:{servers.port}", str(connections), str(rate), str(SECONDS), input=request)
    result = json.loads(out)
    assert result["failed"] == 0, result
    return result["p50_us"] / 1000, result["p99_us"] / 1000


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
            peak, connections = max((rounds[name, connections][-1][0], connections) for connections in CONNECTIONS)
            note(f"{name} at half", 0, paced(servers, peak / 2, connections))
    return {key: [median(column) for column in zip(*values)] for key, values in rounds.items()}


def drawing(result):
    names = [("pgbench", "PostgreSQL alone (pgbench)", "#8a8f98"), ("uncached", "token, uncached", "#c98a2b"),
             ("cached", "token, cached", "#2f6fde"), ("healthz", "/healthz", "#b9c0ca")]
    groups = [(f"{connections} connections", [(label, result[name, connections][0], colour) for name, label, colour in names])
              for connections in CONNECTIONS]
    return bars("Reads of a token per second", groups)


def section(result):
    best = {name: max(result[name, c][0] for c in CONNECTIONS) for name in ("pgbench", "cached", "uncached", "healthz")}
    lines = ["| connections | pgbench | uncached | cached | `/healthz` |", "| --- | --- | --- | --- | --- |"]
    for c in CONNECTIONS:
        cells = [f"{result['pgbench', c][0] / 1000:.1f}k/s"]
        for name in ("uncached", "cached", "healthz"):
            rate, p50, p99 = result[name, c]
            cells.append(f"{rate / 1000:.1f}k/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        lines.append(f"| {c} | " + " | ".join(cells) + " |")
    half = {name: result[f"{name} at half", 0] for name in ("cached", "uncached")}
    lines += ["", "| | peak | against pgbench | goal | at half of the peak | goal |",
              "| --- | --- | --- | --- | --- | --- |"]
    for name, goal in (("cached", 1.5), ("uncached", 0.6)):
        p50, p99 = half[name]
        lines.append(f"| {name} | {best[name] / 1000:.1f}k/s | {best[name] / best['pgbench']:.2f} | at least {goal} | "
                     f"p50 {p50:.2f} ms, p99 {p99:.2f} ms | p99 at most 5 ms |")
    return "\n".join(lines)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        servers = Servers(scratch)
        try:
            servers.begin()
            measured = measure(servers)
        except BaseException:
            sys.stderr.write(servers.log())
            raise
        finally:
            servers.stop()
    with open(DRAWING, "w", encoding="utf-8") as file:
        file.write(drawing(measured))
    print(section(measured))


if __name__ == "__main__":
    main()
