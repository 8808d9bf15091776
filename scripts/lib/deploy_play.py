"""What scripts/test-deploy does with the running compose stack: plays authorizations, breaks containers, replaces them, and
says what was checked. Standard library only; `docker compose` finds its files by COMPOSE_FILE.

deploy_play.py          kills and restarts each container, and replaces the services
deploy_play.py upgrade  the stack runs the images with the tag `previous`: upgrades it to those with the tag `local`
deploy_play.py newer    the last part of `upgrade` alone, which needs no previous images
deploy_play.py ha       the stack has tests/deploy/ha: loses one broker after the other, and the primary database server
"""

import http.client
import json
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

from deploy_traffic import Stack, Traffic, call

INSTANCES = ["gateway-1", "gateway-2", "auth-worker-1", "auth-worker-2", "token-refresher-1", "token-refresher-2"]
BACKING = ["postgres", "rabbitmq", "proxy", "prometheus", "alertmanager", "grafana"]
APP_ID = "cli_demo0000compose0"

failures = []


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def check(ok, text):
    """One plain line of the result; a check that fails fails the run."""
    print(f"{'ok    ' if ok else 'FAILED'}  {text}", flush=True)
    if not ok:
        failures.append(text)


def run(*command, timeout=300, fail=True):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if fail and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done


def compose(*arguments, **options):
    return run("docker", "compose", *arguments, **options)


def container(service):
    return compose("ps", "--all", "--quiet", service).stdout.split()[0]


def inspect(service):
    return json.loads(run("docker", "inspect", container(service)).stdout)[0]


def all_parts_work(instance):
    program = f"/usr/local/bin/larkauth-{instance.rsplit('-', 1)[0]}"
    return compose("exec", "-T", instance, program, "healthcheck", "--all", fail=False, timeout=30).returncode == 0


def wait(what, look, seconds=120):
    """Waits for a condition; returns the seconds that it took."""
    start = time.monotonic()
    while not look():
        if time.monotonic() - start > seconds:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.3)
    return time.monotonic() - start


# --- at rest --------------------------------------------------------------------------------------------------------


def check_containers():
    for service in INSTANCES + BACKING + ["lark"]:
        state = inspect(service)
        host = state["HostConfig"]
        closed = host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"]
        pid = state["State"]["Pid"]
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            lines = dict(line.rstrip().split(":\t", 1) for line in status if ":\t" in line)
        unprivileged = lines["Uid"].split()[0] != "0" and int(lines["CapEff"], 16) == 0
        limited = host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"]
        ports = [binding["HostIp"] for bindings in (host["PortBindings"] or {}).values() for binding in bindings or []]
        if not (closed and unprivileged and limited and all(ip == "127.0.0.1" for ip in ports)):
            check(False, f"{service} runs closed in: read-only {host['ReadonlyRootfs']}, uid {lines['Uid'].split()[0]}, "
                         f"capabilities {lines['CapEff']}, limits {bool(limited)}, ports on {ports}")
            return
    check(True, "every container: not root, no capability, read-only root, limits of memory, processor and processes, ports on 127.0.0.1 only")


def check_images():
    for service in ("gateway", "auth-worker", "token-refresher"):
        found = run("docker", "run", "--rm", "--entrypoint", "grep", f"larkauth/{service}:local", "--count", "--text", "/_sim",
                    f"/usr/local/bin/larkauth-{service}", fail=False).stdout.strip()
        if found != "0":
            check(False, f"the image of {service} holds no simulator (lines with `/_sim`: {found})")
            return
    check(True, "the images of the services hold no simulator")


def status_of(url):
    """The status of any answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    finally:
        connection.close()


def check_listeners(stack):
    public = {path: status_of(stack.public + path) for path in ("/v1/apps", "/metrics", "/readyz", "/docs", "/health")}
    private = {path: status_of(stack.api + path) for path in ("/oauth/callback", "/lark/callback")}
    check(all(code == 404 for code in {**public, **private}.values()) and status_of(stack.public + "/healthz") == 200,
          "the public port serves nothing private, and the private port nothing public")


def check_monitoring():
    def targets():
        found = call("GET", f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PORT', '9090')}/api/v1/targets")
        return {(one["labels"]["job"], one["labels"]["instance"]): one["health"] for one in found["data"]["activeTargets"]}

    def complete():
        up = {instance.split(":")[0] for (_, instance), health in targets().items() if health == "up"}
        return up >= {f"{job}-{number}" for job in ("gateway", "auth-worker", "token-refresher") for number in (1, 2)} | {"rabbitmq"}

    try:
        wait("the targets of Prometheus", complete, 60)
        found = True
    except RuntimeError:
        found = False
    check(found, "Prometheus scrapes both instances of each service, and the broker" if found else f"Prometheus's targets: {targets()}")
    ready = call("GET", f"http://127.0.0.1:{os.environ.get('ALERTMANAGER_PORT', '9093')}/-/ready")
    check(ready is not None, "Alertmanager is ready")
    health = call("GET", f"http://127.0.0.1:{os.environ.get('GRAFANA_PORT', '3000')}/api/health")
    if health.get("stand-in"):
        say("Grafana: a stand-in, which only sees that its files are mounted; boards and data sources were NOT loaded")
    else:
        check(True, "Grafana is healthy")


# --- under load -----------------------------------------------------------------------------------------------------


def phase(traffic, title, act, strict):
    """Acts while people authorize and services read. `strict` names the counts that must stay."""
    before = traffic.counts.snapshot()
    traffic.counts.mark()
    start = time.monotonic()
    say(title)
    act()
    wait("all parts of every instance", lambda: all(all_parts_work(instance) for instance in INSTANCES), 180)
    # People who were on their way meet the end of the outage.
    completed = traffic.counts.get("completed")
    wait("five more authorizations", lambda: traffic.counts.get("completed") >= completed + 5, 180)
    after = traffic.counts.snapshot()
    delta = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    done = (f"{delta.get('completed', 0)} authorizations, {delta.get('clicks', 0)} clicks, {delta.get('reads', 0)} reads, "
            f"{time.monotonic() - start:.0f} s")
    rest = [f"{name} {number} within {traffic.counts.span(name):.1f} s" for name, number in sorted(delta.items())
            if name not in ("completed", "clicks", "reads", "green_cards", "refreshes_asked")]
    broken = {name: delta[name] for name in strict if delta.get(name)}
    check(not broken, f"{title}: {done}" + (f"; also {', '.join(rest)}" if rest else ""))
    if broken:
        # Deadlines of seconds are missed on a machine that does much else.
        say(f"load of this machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def kill(service):
    """SIGKILL from outside, which the restart policy answers; `docker kill` would count as a wish to stop."""
    state = inspect(service)
    os.kill(state["State"]["Pid"], 9)
    identity = state["Id"]
    started = state["State"]["StartedAt"]
    wait(f"a new process of {service}", lambda: inspect(service)["State"]["Running"] and inspect(service)["State"]["StartedAt"] != started
         and inspect(service)["Id"] == identity, 60)


def restart(service):
    compose("restart", service, timeout=180)
    wait(f"{service} to be healthy", lambda: inspect(service)["State"]["Health"]["Status"] == "healthy", 120)


def roll(*instances, tag="local"):
    os.environ["LARKAUTH_TAG"] = tag
    done = run("scripts/rolling-upgrade", *instances, timeout=900, fail=False)
    if done.returncode != 0:
        raise RuntimeError(f"scripts/rolling-upgrade: {done.stderr[-2000:]}")


def more(traffic, number):
    goal = traffic.counts.get("completed") + number
    wait(f"{number} authorizations", lambda: traffic.counts.get("completed") >= goal, 180)


CLICKS = ["clicks_unanswered", "clicks_cut"]
READS = [*CLICKS, "reads_failed"]


def break_everything(traffic):
    """Kills and restarts each container, and replaces the services."""
    phase(traffic, "at rest", lambda: more(traffic, 20), READS)
    for service in INSTANCES:
        # A click that Lark has sent to a process when it is killed has no process left to answer it: at most one for each person who
        # clicks at that moment.
        cut = ["clicks_unanswered", "reads_failed"] if service.startswith("gateway") else READS
        phase(traffic, f"kill -9 of {service}", lambda service=service: kill(service), cut)
    phase(traffic, "restart of RabbitMQ", lambda: restart("rabbitmq"), READS)
    phase(traffic, "restart of PostgreSQL", lambda: restart("postgres"), CLICKS)
    phase(traffic, "rolling upgrade of all six", roll, READS)


# --- an upgrade -----------------------------------------------------------------------------------------------------

FIRST = ["auth-worker-1", "token-refresher-1", "gateway-1"]
SECOND = ["auth-worker-2", "token-refresher-2", "gateway-2"]
# Of migrations that no release has.
EXPANDING, CONTRACTING = 900001, 900002


def sql(statements, server="postgres"):
    return compose("exec", "-T", server, "psql", "--username=larkauth", "--quiet", "--tuples-only", "--no-align",
                   "--set=ON_ERROR_STOP=1", "--command", statements).stdout.strip()


def record(version, description):
    sql("insert into _sqlx_migrations (version, description, success, checksum, execution_time) "
        f"values ({version}, '{description}', true, 'x', 0)")


def expand():
    """What the migration of a newer release may do: each table has one more column that may be null."""
    tables = sql("select tablename from pg_tables where schemaname = 'public' and tablename <> '_sqlx_migrations'").split()
    for table in tables:
        sql(f'alter table "{table}" add column made_up_by_test text')
    record(EXPANDING, "add what a newer release needs")
    return len(tables)


def said(instance, text, since):
    return text in compose("logs", "--no-color", "--no-log-prefix", "--since", since, instance).stdout


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def restart_on_newer_schema(instances):
    since = now()
    for instance in instances:
        restart(instance)
    silent = [one for one in instances if not said(one, "database schema is of a newer release", since)]
    check(not silent, "each restarted service says that the schema is of a newer release" + (f", but {silent}" if silent else ""))


def refuse_contracted_schema(traffic):
    """Services that are restarted on a contracted schema refuse it; the others work; without the record all come back."""
    line = f"migration {CONTRACTING} of a newer release has removed what this build needs"
    record(CONTRACTING, "contract what this build needs")
    since = now()
    for instance in FIRST:
        compose("restart", instance)
    for instance in FIRST:
        wait(f"the refusal of {instance}", lambda instance=instance: said(instance, line, since), 60)
    check(True, f"each restarted service refuses a contracted schema: {line}")
    more(traffic, 10)
    up = [one for one in FIRST if inspect(one)["State"].get("Health", {}).get("Status") == "healthy"]
    check(not up, "none of them serves meanwhile" + (f", but {up}" if up else ""))
    done = run("scripts/rolling-upgrade", timeout=300, fail=False)
    check(done.returncode != 0 and "nothing was replaced" in done.stderr, "rolling-upgrade replaces nothing on a contracted schema")
    sql(f"delete from _sqlx_migrations where version = {CONTRACTING}")


def check_tags(instances, tag):
    others = [one for one in instances if inspect(one)["Config"]["Image"].rsplit(":", 1)[1] != tag]
    check(not others, f"{', '.join(instances)}: image with the tag {tag}" + (f", but {others}" if others else ""))


def upgrade(traffic):
    """From the previous programs to the new ones, back and forth."""
    check_tags(INSTANCES, "previous")
    phase(traffic, "previous programs at rest", lambda: more(traffic, 20), READS)
    before = sql("select count(*) from _sqlx_migrations")
    os.environ["LARKAUTH_TAG"] = "local"
    phase(traffic, "migration by the new program", lambda: compose("run", "--rm", "--no-deps", "-T", "migrate"), READS)
    say(f"migrations: {before} before, {sql('select count(*) from _sqlx_migrations')} after")
    phase(traffic, "restart of one previous program of each service, on the new schema", lambda: [restart(one) for one in FIRST], READS)
    phase(traffic, "new programs for one instance of each service", lambda: roll(*FIRST), READS)
    check_tags(FIRST, "local")
    check_tags(SECOND, "previous")
    phase(traffic, "previous and new programs side by side", lambda: more(traffic, 40), READS)
    phase(traffic, "back to the previous programs", lambda: roll(*FIRST, tag="previous"), READS)
    check_tags(INSTANCES, "previous")
    phase(traffic, "rolling upgrade of all six", roll, READS)
    check_tags(INSTANCES, "local")
    meet_newer_schema(traffic)


def meet_newer_schema(traffic):
    """A release after this one has migrated the database."""
    phase(traffic, "made-up migration of a newer release, each table has one more column", expand, READS)
    phase(traffic, "restart of one of each service, on the newer schema", lambda: restart_on_newer_schema(FIRST), READS)
    phase(traffic, "restart of one of each service, on a contracted schema", lambda: refuse_contracted_schema(traffic), READS)


# --- high availability ----------------------------------------------------------------------------------------------

BROKERS = ["rabbitmq", "rabbitmq-2", "rabbitmq-3"]


def rabbitmqctl(broker, *arguments):
    return compose("exec", "-T", broker, "rabbitmqctl", "--quiet", "--no-table-headers", *arguments).stdout


def none_is_critical():
    """Whether each queue keeps its majority, whichever broker is lost next."""
    return all(compose("exec", "-T", broker, "rabbitmq-diagnostics", "--quiet", "check_if_node_is_quorum_critical", fail=False)
               .returncode == 0 for broker in BROKERS)


def lose_broker(traffic, broker):
    run("docker", "kill", container(broker))
    more(traffic, 15)
    say(f"{broker} comes back")
    run("docker", "start", container(broker))
    wait(f"{broker} to be healthy", lambda: inspect(broker)["State"]["Health"]["Status"] == "healthy", 180)
    wait("the members of the queues", none_is_critical, 120)


def standby_follows():
    return sql("select count(*) from pg_stat_replication where application_name = 'standby' and sync_state = 'sync'") == "1"


def restart_primary():
    restart("postgres")
    wait("the standby", standby_follows, 60)


def lose_primary(traffic):
    """Kills the primary server for good, and promotes its standby two seconds later."""
    run("docker", "kill", container("postgres"))
    time.sleep(2)
    sql("select pg_promote()", "postgres-2")
    more(traffic, 15)


def lose_servers(traffic):
    queues = [line.split("\t") for line in rabbitmqctl("rabbitmq", "list_queues", "name", "type", "members").splitlines()]
    small = [name for name, kind, members in queues if kind == "quorum" and len(members.split(",")) != len(BROKERS)]
    quorum = sum(kind == "quorum" for _, kind, _ in queues)
    check(quorum and not small, f"quorum queues with a member on each broker: {quorum} of {len(queues)} queues" + (f", not {small}" if small else ""))
    check(standby_follows(), "the primary database server waits for its standby at each commit")
    started = {one: inspect(one)["State"]["StartedAt"] for one in INSTANCES}
    phase(traffic, "at rest", lambda: more(traffic, 20), READS)
    for broker in BROKERS[1:] + BROKERS[:1]:
        phase(traffic, f"{broker} is killed, and comes back", lambda broker=broker: lose_broker(traffic, broker), READS)
    phase(traffic, "restart of the primary database server", restart_primary, CLICKS)
    phase(traffic, "the primary database server is killed, its standby promoted", lambda: lose_primary(traffic), CLICKS)
    again = [one for one in INSTANCES if inspect(one)["State"]["StartedAt"] != started[one]]
    check(not again, "no service was started again" + (f", but {again}" if again else ""))


# --- the end --------------------------------------------------------------------------------------------------------


def check_end(stack, traffic):
    counts = traffic.counts
    check(not traffic.failed, f"every person who started to authorize has authorized: {counts.get('completed')} of "
                              f"{counts.get('completed') + len(traffic.failed)}")
    check(counts.get("green_cards") == counts.get("completed"), f"every card turned green: {counts.get('green_cards')}")
    check(counts.get("clicks_unanswered") == 0, f"clicks without an answer: {counts.get('clicks_unanswered')} of {counts.get('clicks')}")
    cut, possible = counts.get("clicks_cut"), 2 * traffic.AUTHORIZERS
    check(cut <= possible, f"clicks on their way to a gateway when it was killed, and clicked again: {cut} (at most {possible})")
    # Before this test itself calls Lark, which limits that, too.
    violations = stack.violations()
    lost = []
    for open_id in traffic.people:
        try:
            token = stack.token(open_id)["access_token"]
            if not stack.is_valid_at_lark(token):
                lost.append(f"{open_id}: the token is not valid at Lark")
        except Exception as error:  # noqa: BLE001: each is a lost pair, with its reason
            lost.append(f"{open_id}: {error}")
        time.sleep(0.07)
    for line in lost[:10]:
        say(line)
    check(not lost, f"pairs lost: {len(lost)} of {len(traffic.people)}, each read and tried at the simulated Lark")
    for one in violations[:10]:
        say(f"violation: {one}")
    check(not violations, f"what a correct client never does, counted by the simulated Lark: {len(violations)}")
    calls = call("GET", f"{stack.sim}/_sim/stats")["calls"]
    check(calls.get("token_refresh", 0) > counts.get("refreshes_asked"),
          f"tokens were refreshed on schedule and on request: {calls.get('token_refresh', 0)} refreshes, {counts.get('refreshes_asked')} requests")
    queues = compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--no-table-headers", "list_queues", "name", "messages").stdout
    dead = [line for line in queues.splitlines() if "dead" in line and not line.split()[-1] == "0"]
    check(not dead, f"dead letters: {dead or 0}")
    spools = 0
    for instance in INSTANCES:
        listed = run("docker", "run", "--rm", "--volumes-from", container(instance), "--entrypoint", "find",
                     "larkauth/gateway:local", "/var/lib/larkauth/escrow", "-name", "*.escrow").stdout.split()
        spools += len(listed)
    check(spools == 0, f"pairs left in a spool: {spools}")


def main(mode=""):
    with open("deploy/secrets/api_key", encoding="ascii") as file:
        key = file.read().strip()
    stack = Stack(
        public=f"http://127.0.0.1:{os.environ.get('PUBLIC_PORT', '8080')}",
        api=f"http://127.0.0.1:{os.environ.get('API_PORT', '8081')}",
        sim=f"http://127.0.0.1:{os.environ.get('SIM_PORT', '9099')}",
        app_id=APP_ID,
        key=key,
    )
    waited = wait("all parts of every instance", lambda: all(all_parts_work(instance) for instance in INSTANCES), 120)
    say(f"every part works, {waited:.0f} s after the containers were healthy")
    check_containers()
    check_images()
    check_listeners(stack)
    check_monitoring()
    traffic = Traffic(stack)
    traffic.start()
    try:
        {"": break_everything, "upgrade": upgrade, "newer": meet_newer_schema, "ha": lose_servers}[mode](traffic)
    except RuntimeError as error:
        check(False, str(error))
    finally:
        traffic.stop()
    check_end(stack, traffic)
    if failures:
        for note in traffic.counts.notes[:40]:
            say(note)
    print(f"{'FAILED' if failures else 'passed'}: {len(failures)} checks failed", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
