"""People who authorize, and services that read, against the compose stack: through its proxy, as outsiders. Standard library only.

The simulated Lark drives the people (`/_sim`), counts what a correct client never does, and knows which tokens are valid.
"""

import http.client
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class Refused(Exception):
    """An answer with another status than expected. Its text holds no secret."""

    def __init__(self, status, what, body=b""):
        super().__init__(f"{what}: {status} {problem(body)}".strip())
        self.status = status


def problem(body):
    """The code of a problem document, or nothing."""
    try:
        return json.loads(body).get("code", "")
    except (ValueError, AttributeError):
        return ""


def call(method, url, body=None, headers=None, timeout=10.0, expect=(200, 201, 204)):
    """One request over a connection of its own, without a retry."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        payload = None if body is None else json.dumps(body)
        given = {"Content-Type": "application/json"} if payload is not None else {}
        connection.request(method, path, payload, {**given, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status not in expect:
        raise Refused(answer.status, f"{method} {parts.path}", content)
    if content and "json" in (answer.headers.get("Content-Type") or ""):
        return json.loads(content)
    return content


@dataclass
class Stack:
    """Addresses of the stack."""

    public: str
    api: str
    sim: str
    app_id: str
    key: str

    def headers(self):
        return {"Authorization": f"Bearer {self.key}"}

    def token(self, open_id, timeout=10.0):
        url = f"{self.api}/v1/apps/{self.app_id}/users/{open_id}/token?min_validity=5"
        return call("GET", url, headers=self.headers(), timeout=timeout)

    def refresh(self, open_id):
        url = f"{self.api}/v1/apps/{self.app_id}/users/{open_id}/token/refresh"
        return call("POST", url, {}, self.headers())

    def is_valid_at_lark(self, token):
        answer = call("GET", f"{self.sim}/open-apis/authen/v1/user_info", headers={"Authorization": f"Bearer {token}"},
                      expect=range(200, 500))
        return isinstance(answer, dict) and answer.get("code") == 0

    def violations(self):
        return call("GET", f"{self.sim}/_sim/violations")

    def add_person(self):
        """A new person; returns the open_id."""
        mark = uuid.uuid4().hex
        person = {"open_id": f"ou_{mark}", "union_id": f"on_{mark}", "name": "测试用户", "en_name": "Test Person",
                  "tenant_key": mark[:16]}
        call("POST", f"{self.sim}/_sim/users", person)
        return person["open_id"]


@dataclass
class Counts:
    """What happened. Changed under its lock only."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: dict = field(default_factory=dict)
    # When each happened first and last since `mark`, for the length of an outage.
    spans: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def add(self, name, note=None):
        with self.lock:
            self.numbers[name] = self.numbers.get(name, 0) + 1
            now = time.monotonic()
            self.spans[name] = (self.spans.get(name, (now, now))[0], now)
            if note and len(self.notes) < 200:
                self.notes.append(f"{name}: {note}")

    def get(self, name):
        with self.lock:
            return self.numbers.get(name, 0)

    def mark(self):
        """Forgets when things happened."""
        with self.lock:
            self.spans = {}

    def span(self, name):
        """Seconds from the first to the last since `mark`."""
        with self.lock:
            first, last = self.spans.get(name, (0, 0))
            return last - first

    def snapshot(self):
        with self.lock:
            return dict(self.numbers)


class Traffic:
    """Threads of people who authorize, of services that read and of one that refreshes, until stopped."""

    AUTHORIZERS = 3
    READERS = 3
    # A person's whole way, with every outage that a phase makes in between.
    DEADLINE = 150
    # Lark's own deadline is 3 s.
    ANSWER_DEADLINE_MS = 2900

    def __init__(self, stack):
        self.stack = stack
        self.counts = Counts()
        self.stopping = threading.Event()
        self.people = []
        self.failed = []
        self.threads = []

    def start(self):
        jobs = [self.authorize_for_ever] * self.AUTHORIZERS + [self.read_for_ever] * self.READERS + [self.refresh_for_ever]
        self.threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.DEADLINE + 30)
            if thread.is_alive():
                raise RuntimeError("a thread of the traffic does not end")

    # --- people -----------------------------------------------------------------------------------------------------

    def authorize_for_ever(self):
        while not self.stopping.is_set():
            open_id = self.stack.add_person()
            try:
                self.authorize(open_id)
            except Exception as error:  # noqa: BLE001: counted, named, and failed on at the end
                self.counts.add("authorization_failed", f"{type(error).__name__} {error}")
                self.failed.append(open_id)
            self.stopping.wait(0.5)

    def authorize(self, open_id):
        """A service asks, the person clicks and agrees, the card turns green, the service reads the token."""
        deadline = time.monotonic() + self.DEADLINE
        session = self.ask(open_id, deadline)
        message = self.until(deadline, "the card", lambda: next(iter(self.messages(open_id)), None))
        url = self.click(open_id, message["message_id"], deadline)
        self.agree(open_id, url, message["message_id"], deadline)
        session_url = f"{self.stack.api}/v1/auth/sessions/{session['session_id']}"

        def ended():
            state = self.patient(deadline, "session", lambda: call("GET", session_url, headers=self.stack.headers()))["state"]
            if state not in ("pending", "completed"):
                raise RuntimeError(f"the session is {state}")
            return state == "completed"

        self.until(deadline, "the end of the session", ended)
        self.counts.add("completed")
        self.people.append(open_id)
        self.until(deadline, "a green card", lambda: self.messages(open_id)[0]["card"]["header"]["template"] == "green")
        self.counts.add("green_cards")

    def ask(self, open_id, deadline):
        """A caller repeats a request that was not answered, with the same key, so it is one session."""
        headers = {**self.stack.headers(), "Idempotency-Key": uuid.uuid4().hex}
        body = {"app_id": self.stack.app_id, "open_id": open_id}
        url = f"{self.stack.api}/v1/auth/sessions"
        return self.patient(deadline, "invitation", lambda: call("POST", url, body, headers))

    def click(self, open_id, message_id, deadline):
        """Clicks until the click is taken, as a person does who reads `please try again`. Returns the consent page."""
        while True:
            outcome = call("POST", f"{self.stack.sim}/_sim/click",
                           {"message_id": message_id, "button": "authorize", "open_id": open_id}, timeout=15)
            self.counts.add("clicks")
            if not outcome["answered"] and outcome["elapsed_ms"] < self.ANSWER_DEADLINE_MS:
                # The connection ended under the click. The person sees an error, and clicks again.
                self.counts.add("clicks_cut", f"error {outcome['error']} after {outcome['elapsed_ms']} ms")
            elif not outcome["answered"]:
                self.counts.add("clicks_unanswered", f"error {outcome['error']} after {outcome['elapsed_ms']} ms")
            elif (outcome["toast"] or {}).get("type") in ("error", "warning"):
                self.counts.add("clicks_try_again")
            else:
                return outcome["url"]
            if time.monotonic() > deadline:
                raise RuntimeError("no click was taken")
            time.sleep(1)

    def agree(self, open_id, url, message_id, deadline):
        """Agrees on the page, and follows the redirect to the gateway through the proxy. A browser that shows an error is
        reloaded."""
        redirect = call("POST", f"{self.stack.sim}/_sim/consent", {"url": url, "open_id": open_id})["redirect_url"]
        assert redirect.startswith(self.stack.public), "the redirect leads elsewhere"
        # 202: the page of a session that has not ended yet, which looks again by itself.
        self.patient(deadline, "redirect", lambda: call("GET", redirect, headers={"Accept": "text/html"}, timeout=15,
                                                        expect=(200, 202)))

    def messages(self, open_id):
        return call("GET", f"{self.stack.sim}/_sim/messages?open_id={open_id}")

    # --- services ---------------------------------------------------------------------------------------------------

    def read_for_ever(self):
        turn = 0
        while not self.stopping.is_set():
            people = list(self.people)
            if people:
                turn += 1
                self.read(people[turn % len(people)])
            self.stopping.wait(0.03)

    def read(self, open_id):
        try:
            self.stack.token(open_id)
            self.counts.add("reads")
        except Exception as error:  # noqa: BLE001: counted by phase, and judged there
            self.counts.add("reads_failed", f"{type(error).__name__} {error}")

    def refresh_for_ever(self):
        turn = 0
        while not self.stopping.is_set():
            people = list(self.people)
            if people:
                turn += 1
                try:
                    self.stack.refresh(people[-(turn % len(people)) - 1])
                    self.counts.add("refreshes_asked")
                except Exception as error:  # noqa: BLE001: what counts is that no pair is lost
                    self.counts.add("refreshes_refused", f"{type(error).__name__} {error}")
            self.stopping.wait(0.25)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def until(self, deadline, what, look):
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} does not come")
            time.sleep(0.1)

    def patient(self, deadline, what, request):
        """Repeats a request that an outage refused."""
        while True:
            try:
                return request()
            except (OSError, http.client.HTTPException, Refused) as error:
                if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                    raise
                self.counts.add(f"{what}_repeated", str(error))
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
