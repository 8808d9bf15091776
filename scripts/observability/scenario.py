"""Load, and each fault once. A step breaks one thing, waits for its alerts, and repairs it."""

import random
import signal
import threading
import time

from .http import ask, eventually
from .stack import APP

# How long an alert may take: a gauge is updated every 15 s.
PATIENCE = 60


def say(text):
    print(f"==> {text}", flush=True)


class Load:
    """Reads all the time, an authorization now and then. What fails while something is broken does not stop it."""

    def __init__(self, stack):
        self.stack = stack
        self.authorized = []
        self.is_quiet = threading.Event()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.read, self.authorize)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join(timeout=40)

    def read(self):
        while not self.is_over.wait(0.1):
            for person in self.authorized + self.stack.people[-1:]:
                try:
                    self.stack.read(person)
                except OSError:
                    time.sleep(0.5)

    def authorize(self):
        while not self.is_over.wait(3):
            if self.is_quiet.is_set():
                continue
            try:
                person = random.choice(self.stack.people[:4])
                session = self.stack.invite(person)
                message = self.stack.card(person, session, 10)
                if random.random() < 0.3:
                    self.stack.click(message, "cancel")
                elif random.random() < 0.8:
                    self.stack.click(message, "authorize")
                    url = next(button["url"] for button in message["buttons"] if button.get("url"))
                    self.stack.control("POST", "consent", {"url": url, "open_id": person, "follow": True})
            except (OSError, StopIteration):
                continue


class Scenario:
    def __init__(self, stack, prometheus):
        self.stack, self.prometheus = stack, prometheus
        self.load = Load(stack)
        self.failures = []
        self.fired = set()

    def run(self, only=None):
        """Every step, or the first and those that are named."""
        for step in (
            self.ordinary_work,
            self.refreshes_come_late,
            self.lark_fails,
            self.answers_are_lost,
            self.the_budget_is_exhausted,
            self.people_leave,
            self.consents_end,
            self.lark_refuses_the_application,
            self.messages_cannot_be_handled,
            self.a_worker_crashes,
            self.no_worker_runs,
            self.a_key_is_missing,
            self.lark_freezes,
            self.the_broker_is_blocked,
            self.nothing_takes_a_new_pair,
            self.the_database_is_away,
            self.http_callbacks_take_over,
        ):
            if only and step.__name__ not in ["ordinary_work", *only]:
                continue
            name = step.__name__.replace("_", " ")
            began = time.monotonic()
            try:
                step()
            except (OSError, TimeoutError, ValueError, StopIteration) as error:
                self.failures.append(f"{name}: {error!r}")
                say(f"FAILED {name}: {error!r}")
            say(f"{name}: {time.monotonic() - began:.0f} s")
        self.load.stop()

    def fires(self, *alerts, within=PATIENCE):
        for alert in alerts:
            eventually(f"{alert} fires", lambda alert=alert: self.prometheus.is_firing(alert), within, 0.5)
            self.fired.add(alert)
            say(f"  {alert} fires")

    def due_at_once(self, people, more=""):
        named = ", ".join(f"'{person}'" for person in people)
        self.stack.psql(f"update access_tokens set next_attempt_at = now(){more} where open_id in ({named})")

    # --- steps ----------------------------------------------------------------------------------------------------------

    def ordinary_work(self):
        stack = self.stack
        for person in stack.people[:9]:
            if stack.authorize(person) != "completed":
                raise ValueError("a person was not authorized")
        # The last one is never read, so that no read refreshes the token.
        self.load.authorized = stack.people[:8]
        self.load.start()
        # An event of another program, a session that expires, and one that is not known.
        stack.control("POST", "events", {"app_id": APP, "event_type": "im.message.receive_v1", "event": {"message": {}}})
        stack.invite(stack.people[9])
        person = stack.people[9]
        session = stack.invite(person)
        message = stack.card(person, session)
        stack.psql(f"delete from user_auth_sessions where session_id = '{session}'")
        stack.click(message, "authorize")
        for person in self.load.authorized[:3]:
            stack.refresh(person)
        self.due_at_once(self.load.authorized[3:6])
        # A process that takes one message first, after one failure.
        stack.fault("message_send", {"answer": {"status": 503, "code": 20050}}, 8)
        stack.invite(stack.people[10])
        time.sleep(25)

    def refreshes_come_late(self):
        past = "now() - interval '1 minute'"
        self.stack.psql(
            f"update access_tokens set access_expires_at = {past}, next_attempt_at = {past} where open_id = '{self.stack.people[8]}'"
        )
        self.fires("LarkauthRefreshTooLate")

    def lark_fails(self):
        self.stack.fault(None, {"answer": {"status": 503, "code": 20050}}, None)
        try:
            deadline = time.monotonic() + PATIENCE
            while not self.prometheus.is_firing("LarkauthLarkFails"):
                for person in self.load.authorized:
                    self.stack.refresh(person)
                if time.monotonic() > deadline:
                    break
            self.fires("LarkauthLarkFails", within=1)
        finally:
            self.stack.clear_faults()

    def answers_are_lost(self):
        self.stack.fault("token_refresh", "lost_answer", None)
        try:
            self.due_at_once(self.load.authorized[1:3])
            self.fires("LarkauthOutcomeUnknown")
        finally:
            self.stack.clear_faults()

    def the_budget_is_exhausted(self):
        people = self.load.authorized[3:6]
        # With new tokens: the earlier faults have left pauses, and logins that are over.
        for person in people:
            self.stack.authorize(person)
        self.stack.fault("token_refresh", {"too_many_requests": 55})
        # The first call is refused by Lark, the second one by larkauth.
        for person in people[:2]:
            self.stack.refresh(person)
        self.due_at_once(people, " - interval '10 minutes'")
        self.fires("LarkauthBudgetExhausted", "LarkauthRefreshLag")
        eventually("the budget is there again", lambda: not self.prometheus.is_firing("LarkauthRefreshLag"), 120)

    def people_leave(self):
        person = self.load.authorized[7]
        self.stack.authorize(person)
        self.stack.control("PUT", f"users/{person}/status", "frozen")
        self.due_at_once([person])
        suspended = f"select status from access_tokens where open_id = '{person}'"
        eventually("the person is suspended", lambda: self.stack.psql(suspended) == "suspended")
        self.stack.control("PUT", f"users/{person}/status", "active")
        # By the pass of the next minute.
        eventually("the person is back", lambda: self.stack.psql(suspended) != "suspended", 150)

    def consents_end(self):
        person = self.load.authorized[6]
        self.stack.authorize(person)
        self.stack.psql(f"update access_tokens set granted_at = now() - interval '363 days' where open_id = '{person}'")
        self.fires("LarkauthConsentEndsSoon")

    def lark_refuses_the_application(self):
        self.stack.authorize(self.load.authorized[0])
        self.stack.larkauth("apps", "add", APP, APP_SECRET="not-the-secret-0123456789")
        deadline = time.monotonic() + PATIENCE
        try:
            while not self.prometheus.is_firing("LarkauthBreakerOpen") and time.monotonic() < deadline:
                self.stack.refresh(self.load.authorized[0])
                time.sleep(2)
            self.fires("LarkauthBreakerOpen", within=1)
        finally:
            self.stack.larkauth("apps", "add", APP)

    def messages_cannot_be_handled(self):
        self.stack.publish("oauth.code.received", "this is no message")
        self.fires("LarkauthDeadLetters")
        self.stack.larkauth("dead-letters", "drop", "--all", "--yes")
        eventually("it is dropped", lambda: not self.prometheus.is_firing("LarkauthDeadLetters"), PATIENCE)

    def a_worker_crashes(self):
        self.stack.fault("message_send", {"late_answer": 8000}, 4)
        self.stack.invite(self.stack.people[10])
        time.sleep(2)
        self.stack.stop_service("auth-worker", signal.SIGKILL)
        self.stack.start_service("auth-worker")
        isolated = "sum(lark_service_bus_isolated_total) > 0"
        eventually("its message is handled alone", lambda: self.prometheus.now(isolated), PATIENCE)
        # A rate needs more than one sample, and the next step stops this worker.
        time.sleep(5)
        self.stack.clear_faults()

    def no_worker_runs(self):
        self.stack.stop_service("auth-worker")
        self.load.is_quiet.set()
        began = time.monotonic()
        for person in self.stack.people[4:8]:
            self.stack.invite(person)
        self.fires("LarkauthServiceDown", "LarkauthInstanceDown", "LarkauthNoConsumer")
        time.sleep(max(0, 45 - (time.monotonic() - began)))
        self.stack.start_service("auth-worker")
        self.load.is_quiet.clear()
        self.fires("LarkauthBusLag")

    def a_key_is_missing(self):
        self.stack.psql("insert into encryption_key_uses (key_id, sealed_at) values ('gone', now())")
        try:
            self.fires("LarkauthEncryptionKeyMissing")
        finally:
            self.stack.psql("delete from encryption_key_uses where key_id = 'gone'")
        eventually("the gateway is ready", lambda: ask("GET", f"{self.stack.base}/readyz").status == 200)

    def lark_freezes(self):
        sim = self.stack.running["sim"]
        sim.send_signal(signal.SIGSTOP)
        try:
            self.fires("LarkauthConnectionDeaf", within=90)
        finally:
            sim.send_signal(signal.SIGCONT)
        up = "max(lark_service_websocket_connection_status) == 1"
        eventually("it is heard again", lambda: self.prometheus.now(up), 90)

    def the_broker_is_blocked(self):
        self.stack.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            self.fires("LarkauthBusBlocked")
        finally:
            self.stack.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        eventually("it takes messages again", lambda: not self.prometheus.is_firing("LarkauthBusBlocked"), PATIENCE)

    def nothing_takes_a_new_pair(self):
        """Lark's answer comes when neither the database nor the broker takes what is in it."""
        stack = self.stack
        stack.authorize(self.load.authorized[4])
        session = stack.invite(stack.people[11])
        message = stack.card(stack.people[11], session)
        # Longer than it takes to break both. More than one, as a scheduled refresh may come in between.
        stack.fault("token_refresh", {"late_answer": 6000}, 3)
        refreshing = threading.Thread(target=self.refresh_quietly, args=(self.load.authorized[4],), daemon=True)
        refreshing.start()
        time.sleep(1.5)
        stack.broker(signal.SIGSTOP)
        stack.database_refuses("set default_transaction_read_only = on")
        try:
            for _ in range(3):
                stack.click(message, "authorize")
            self.fires("LarkauthSpoolNotEmpty", "LarkauthDatabaseUnwritable", "LarkauthBusDown", within=90)
            self.fires("LarkauthClicksBudgetBurnsFast", "LarkauthClicksBudgetBurnsSlowly")
        finally:
            stack.broker(signal.SIGCONT)
            stack.database_refuses("reset default_transaction_read_only")
        refreshing.join(timeout=40)
        kept = "sum(lark_service_token_spool_entries) == 0"
        eventually("the pair is in the database", lambda: self.prometheus.now(kept), PATIENCE)

    def refresh_quietly(self, person):
        try:
            self.stack.refresh(person)
        except OSError:
            pass

    def the_database_is_away(self):
        self.stack.database_refuses("allow_connections false")
        try:
            self.fires("LarkauthDatabaseDown", "LarkauthTokenReadsBudgetBurnsFast", "LarkauthTokenReadsBudgetBurnsSlowly", within=90)
        finally:
            self.stack.psql(f"alter database {self.stack.name} allow_connections true", self.stack.options.database)
        eventually("the gateway is ready", lambda: ask("GET", f"{self.stack.base}/readyz").status == 200)

    def http_callbacks_take_over(self):
        stack = self.stack
        stack.fault("discovery", {"answer": {"status": 503, "code": 1}}, None)
        stack.stop_service("gateway")
        secrets = {"LARK_VERIFICATION_TOKEN": "observed-token", "LARK_ENCRYPT_KEY": "observed-encrypt-key"}
        stack.start_service("gateway", WEBSOCKET_MAX_RECONNECT_RETRIES="1", **secrets)
        try:
            self.fires("LarkauthConnectionFallback")
        finally:
            stack.clear_faults()
