"""The stack: a simulated Lark, three services, a database and a broker, and what breaks them."""

import base64
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import urllib.parse

from .http import ask, eventually

APP = "cli_0123456789abcdef"
PORTS = {"gateway": 8080, "auth-worker": 8081, "token-refresher": 8082}
PEOPLE = 12


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Stack:
    def __init__(self, options):
        self.options = options
        self.folder = options.folder
        self.running = {}
        self.name = f"larkauth_observability_{os.getpid()}"
        self.database = re.sub(r"(//[^/]*/)[^?]*", rf"\1{self.name}", options.database)
        self.ports = {service: free_port() for service in PORTS}
        self.base = f"http://127.0.0.1:{self.ports['gateway']}"
        self.sim = f"http://127.0.0.1:{free_port()}"
        self.secret = secrets.token_hex(16)
        self.key = secrets.token_hex(16)
        redirect = f"{self.base}/oauth/callback"
        self.settings = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.database,
            "AMQP_URL": options.broker,
            "AMQP_PREFIX": "observed",
            "ENCRYPTION_KEYS": f"test:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "API_KEY": self.key,
            "APP_ID": APP,
            "APP_SECRET": self.secret,
            "LARK_BASE_URL": self.sim,
            "LARK_ACCOUNTS_URL": self.sim,
            "OAUTH_REDIRECT_URI": redirect,
            "AUTH_REQUEST_RATE_LIMIT": "1000",
            "AUTH_SESSION_EXPIRY_SECONDS": "90",
            # Noticed soon: a connection that has gone silent, and people who have left.
            "WEBSOCKET_HEARTBEAT_INTERVAL": "2",
            "USER_INFO_SYNC_ENABLED": "true",
            "USER_INFO_SYNC_SCHEDULE": "* * * * *",
            "ESCROW_SPOOL_DIR": f"{self.folder}/spool",
            "RUST_LOG": "info",
        }
        self.people = []

    # --- start and stop -------------------------------------------------------------------------------------------------

    def start(self):
        self.psql(f"create database {self.name}", self.options.database)
        address = urllib.parse.urlsplit(self.sim).netloc
        redirect = self.settings["OAUTH_REDIRECT_URI"]
        self.spawn(
            "sim", "larkauth", ["sim", "--addr", address, "--app-id", APP, "--redirect-uri", redirect], {"SIM_APP_SECRET": self.secret}
        )
        eventually("the simulator answers", lambda: ask("GET", f"{self.sim}/_sim/state").status == 200)
        for number in range(PEOPLE - 3):
            person = f"ou_{number:032x}"
            names = {"name": f"Observed {number}", "en_name": f"Observed {number}", "tenant_key": "0123456789abcdef"}
            user = {"open_id": person, "union_id": f"on_{number:032x}", "user_id": f"u{number:07x}", **names}
            self.control("POST", "users", user)
        self.people = [user["open_ids"][APP] for user in self.control("GET", "users")]
        self.larkauth("migrate")
        for service in PORTS:
            self.start_service(service)

    def spawn(self, name, binary, arguments, settings):
        log = open(f"{self.folder}/{name}.log", "ab")  # noqa: SIM115 # the process keeps it
        path = os.path.join(self.options.binaries, binary)
        environment = {"PATH": os.environ["PATH"], **settings}
        self.running[name] = subprocess.Popen([path, *arguments], env=environment, stdout=log, stderr=log)

    def start_service(self, service, **settings):
        own = {"HTTP_ADDR": f"127.0.0.1:{self.ports[service]}"}
        self.spawn(service, f"larkauth-{service}", [], {**self.settings, **own, **settings})
        address = f"http://127.0.0.1:{self.ports[service]}"
        eventually(f"{service} is ready", lambda: ask("GET", f"{address}/readyz").status == 200)

    def stop_service(self, service, how=signal.SIGTERM):
        process = self.running.pop(service)
        process.send_signal(how)
        process.wait(timeout=40)

    def stop(self):
        self.broker(signal.SIGCONT)
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.psql(f"drop database if exists {self.name} with (force)", self.options.database)

    # --- use ------------------------------------------------------------------------------------------------------------

    def control(self, method, path, body=None):
        answer = ask(method, f"{self.sim}/_sim/{path}", body)
        if answer.status >= 300:
            raise OSError(f"{method} /_sim/{path}: {answer.status} {answer.text}")
        return answer.json()

    def api(self, method, path, body=None, timeout=15):
        return ask(method, f"{self.base}{path}", body, {"Authorization": f"Bearer {self.key}"}, timeout)

    def psql(self, statement, url=None):
        command = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", url or self.database, "-c", statement]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=30).stdout.strip()

    def larkauth(self, *arguments, **settings):
        command = [os.path.join(self.options.binaries, "larkauth"), *arguments]
        environment = {**self.settings, **settings}
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def invite(self, person, **more):
        answer = self.api("POST", "/v1/auth/sessions", {"app_id": APP, "open_id": person, **more})
        if answer.status != 201:
            raise OSError(f"no invitation: {answer.status} {answer.text}")
        return answer.json()["session_id"]

    def card(self, person, session, timeout=20):
        def look():
            messages = self.control("GET", f"messages?open_id={person}")
            return next((message for message in messages if session in json.dumps(message["card"])), None)

        return eventually("the card arrives", look, timeout)

    def click(self, message, button):
        return self.control("POST", "click", {"message_id": message["message_id"], "button": button})

    def authorize(self, person):
        session = self.invite(person)
        message = self.card(person, session)
        self.click(message, "authorize")
        url = next(button["url"] for button in message["buttons"] if button.get("url"))
        self.control("POST", "consent", {"url": url, "open_id": person, "follow": True})
        return self.api("GET", f"/v1/auth/sessions/{session}?wait=20", timeout=30).json()["state"]

    def read(self, person):
        return self.api("GET", f"/v1/apps/{APP}/users/{person}/token").status

    def refresh(self, person):
        return self.api("POST", f"/v1/apps/{APP}/users/{person}/token/refresh", {}, timeout=30).status

    # --- break ----------------------------------------------------------------------------------------------------------

    def fault(self, endpoint, effect, times=1):
        """Plans a fault at the simulator. `times` None: until cleared."""
        self.control("POST", "faults", {"endpoint": endpoint, "effect": effect, "times": times})

    def clear_faults(self):
        self.control("DELETE", "faults")

    def broker(self, how):
        """Sends a signal to the broker and everything that it started."""
        os.killpg(self.options.broker_pid, how)

    def rabbitmqctl(self, *arguments):
        command = [f"{self.folder}/rabbitmqctl", *arguments]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    def publish(self, routing_key, body):
        """Publishes what no service of larkauth would."""
        url = urllib.parse.urlsplit(self.options.broker)
        login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        address = f"http://127.0.0.1:{self.options.broker_management}/api/exchanges/%2f/observed.events/publish"
        message = {"routing_key": routing_key, "payload": body, "payload_encoding": "string", "properties": {}}
        answer = ask("POST", address, message, {"Authorization": f"Basic {login}"})
        if answer.status != 200 or not answer.json()["routed"]:
            raise OSError(f"not published: {answer.status} {answer.text}")

    def database_refuses(self, setting):
        """Changes the database, and ends the connections that were opened before."""
        self.psql(f"alter database {self.name} {setting}", self.options.database)
        ended = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{self.name}'"
        self.psql(ended, self.options.database)
