"""Measures clicks that the gateway answers after the broker's confirm, against the broker alone. For scripts/performance.

  clicks.py LARKAUTH CONFIRMS DATABASE-URL AMQP-URL DRAWING   prints the section of docs/performance.md and writes the SVG

No worker runs: a click waits the whole two seconds for its result and is then answered as received. So what is measured is
what the gateway and the broker carry, and not what the workers do. All of it shares the machine, the simulated Lark and the
load included.

The rate rises step by step until a click is not answered in time. Each connection of the load sends its next click after the
answer to the one before, and the first ones are spread over the two seconds, so that the rate of a step is even.
"""

import json
import re
import secrets
import subprocess
import sys
import tempfile
import time
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from common import APP, ROUNDS, SECONDS, Processes, ask, bars, free_port, median, run, wait_for

LARKAUTH, CONFIRMS, SERVER, BROKER, DRAWING = sys.argv[1:]
# A connection handles 2048 pushes at once, each for two seconds here.
GATEWAYS = 8
# Time until the answer without a worker.
ANSWER_SECONDS = 2
# Seconds between measurements that would disturb each other.
PAUSE = 5
# Clicks per second of each step.
STEPS = range(500, 12_001, 500)
PEOPLE = 4
# About what the gateway publishes for a click.
MESSAGE_BYTES = 900
GOAL = 5000
LUA = """
local bodies = {%s}
local n = 0
request = function()
  n = n %% #bodies + 1
  return wrk.format("POST", "/_sim/click", {["Content-Type"] = "application/json"}, bodies[n])
end
local answered, failed = 0, 0
response = function(status, headers, body)
  if status == 200 and body:find('"answered":true', 1, true) and not body:find('"type":"warning"', 1, true) then
    answered = answered + 1
  else
    failed = failed + 1
  end
end
-- Called before each request: of the first ones, one for each connection.
local begun = 0
delay = function()
  begun = begun + 1
  if begun > %d then return 0 end
  return math.random(0, %d)
end
local threads = {}
setup = function(thread) table.insert(threads, thread) end
done = function(summary)
  io.write(string.format("clicks %%d %%d %%d\\n", threads[1]:get("answered"), threads[1]:get("failed"), summary.duration))
end
""".replace("local answered, failed = 0, 0", "answered, failed = 0, 0")


class Gateways(Processes):
    """A simulated Lark, gateways with a long connection each, and a card for some people."""

    def __init__(self, folder):
        super().__init__(LARKAUTH, folder, SERVER)
        self.ports = [free_port() for _ in range(GATEWAYS)]
        self.key = secrets.token_hex(16)
        self.sim, settings = self.simulator(f"http://127.0.0.1:{self.ports[0]}/oauth/callback")
        self.prefix = f"performance-{secrets.token_hex(4)}."
        self.settings = {**settings, "AMQP_URL": BROKER, "AMQP_PREFIX": self.prefix, "API_KEY": self.key,
                         "ENCRYPTION_KEYS": "performance:" + "A" * 43 + "=", "AUTH_REQUEST_RATE_LIMIT": "1000",
                         "AUTH_SESSION_EXPIRY_SECONDS": "3600"}

    def begin(self):
        base = f"http://127.0.0.1:{self.ports[0]}"
        for port in self.ports:
            self.start([], {**self.settings, "HTTP_ADDR": f"127.0.0.1:{port}"}, "larkauth-gateway")
        port = free_port()
        worker = self.start([], {**self.settings, "HTTP_ADDR": f"127.0.0.1:{port}"}, "larkauth-auth-worker")
        for port in [*self.ports, port]:
            wait_for(f"http://127.0.0.1:{port}/readyz")
        self.cards = self.invite(base)
        self.until(lambda: ask(f"{self.sim}/_sim/state")["apps"][0]["connections"] >= GATEWAYS)
        self.end(worker)

    @staticmethod
    def until(holds):
        until = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < until, "not in time"
            time.sleep(0.05)

    def invite(self, base):
        people = [user["open_id"] for user in ask(f"{self.sim}/_sim/users")][:PEOPLE]
        for person in people:
            ask(f"{base}/v1/auth/sessions", {"app_id": APP, "open_id": person}, self.key)
        cards = lambda: ask(f"{self.sim}/_sim/messages")
        self.until(lambda: len(cards()) >= len(people))
        return [card["message_id"] for card in cards()]

    def clicks(self, rate):
        """Sends clicks at this rate. Returns answered clicks per second, and how many were not."""
        script = f"{self.folder}/clicks.lua"
        bodies = ", ".join(f"'{json.dumps({'message_id': card, 'button': 'authorize'})}'" for card in self.cards)
        with open(script, "w", encoding="utf-8") as file:
            file.write(LUA % (bodies, rate * ANSWER_SECONDS, ANSWER_SECONDS * 1000))
        out = run("wrk", "-t1", f"-c{rate * ANSWER_SECONDS}", f"-d{SECONDS + 2 * ANSWER_SECONDS}s", "--timeout", "8s", "-s", script, self.sim)
        answered, failed, microseconds = map(int, re.search(r"clicks (\d+) (\d+) (\d+)", out).groups())
        # Answers come evenly from the first one on.
        return answered / (microseconds / 1e6 - ANSWER_SECONDS), failed

    def most(self):
        """Returns the highest rate at which every click was answered in time, and the first one at which one was not."""
        best = 0
        for step in STEPS:
            rate, failed = self.clicks(step)
            late = len(ask(f"{self.sim}/_sim/violations"))
            sys.stderr.write(f"{step} clicks/s: {rate:.0f} answered a second, {failed} failed, {late} late\n")
            if failed or late:
                return best, step
            best = rate
        return best, None

    def published(self):
        """Returns how many clicks the gateways count as answered without a result, all of them confirmed."""
        total = 0
        for port in self.ports:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            total += sum(float(line.split()[-1]) for line in lines
                         if line.startswith("lark_service_callback_answer_seconds_count") and 'outcome="late"' in line)
        return int(total)


def broker_alone():
    url = urlsplit(BROKER)
    return float(run(CONFIRMS, f"{url.hostname}:{url.port or 5672}", unquote(url.username or "guest"),
                     unquote(url.password or "guest"), str(GATEWAYS), "250", str(SECONDS), str(MESSAGE_BYTES)))


def measure(gateways):
    rounds = []
    for _ in range(ROUNDS):
        alone = broker_alone()
        # The broker clears the baseline's queue away.
        time.sleep(PAUSE)
        rounds.append((alone, *gateways.most()))
        # Clicks of the step that failed are still being answered.
        time.sleep(PAUSE)
        clear_violations(gateways.sim)
    return rounds


def clear_violations(sim):
    urlopen(Request(f"{sim}/_sim/violations", method="DELETE"), timeout=5).close()


with tempfile.TemporaryDirectory() as scratch:
    gateways = Gateways(scratch)
    try:
        gateways.begin()
        rounds = measure(gateways)
        confirmed = gateways.published()
    except BaseException:
        sys.stderr.write(gateways.log())
        raise
    finally:
        gateways.stop()
alone, rate = median([alone for alone, _, _ in rounds]), median([rate for _, rate, _ in rounds])
ends = ", ".join(f"{step / 1000:.1f}k/s" if step else "none" for _, _, step in rounds)
with open(DRAWING, "w", encoding="utf-8") as drawing:
    drawing.write(bars("Clicks per second", [("each after a durable confirm", [
        ("RabbitMQ alone", alone, "#8a8f98"), ("clicks answered", rate, "#2f6fde")])]))
print(f"""| | per second |
| --- | --- |
| RabbitMQ alone: persistent messages of {MESSAGE_BYTES} bytes confirmed by one quorum queue, {GATEWAYS} connections | {alone / 1000:.1f}k |
| clicks answered, each after a confirm, over {GATEWAYS} long connections (goal: at least {GOAL / 1000:.0f}k) | **{rate / 1000:.1f}k** |

The rate is the highest one at which each click was answered in time; the next step, at which some were not: {ends}. {confirmed} clicks in all.""")
