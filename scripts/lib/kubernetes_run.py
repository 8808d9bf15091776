"""Runs the processes as the manifests describe them: their variables, secret files, user and missing privileges.

Called by `scripts/test-kubernetes --run BIN_DIR` with the admin URL of a PostgreSQL server in LARKAUTH_TEST_DATABASE_URL. Ports are 30000 higher.
No broker answers: a gateway has to be ready without one.
"""

import base64
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

SECRETS, SPOOL = "/run/secrets/larkauth", "/var/lib/larkauth"
USER = 65532
# A public path without its parameters is a mistake of the caller; a private one does not exist there.
PUBLIC = {"/healthz": 200, "/lark/callback": 405, "/v1/auth/sessions": 404, "/metrics": 404, "/readyz": 404, "/docs": 404}


def answer(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def eventually(url, wanted, seconds):
    until = time.monotonic() + seconds
    while (status := answer(url)) != wanted:
        if time.monotonic() > until:
            return f"{url} answers {status} and not {wanted}"
        time.sleep(0.1)
    return None


class Machine:
    """A folder with the mounted files, and a database."""

    def __init__(self, folder, programs):
        self.folder, self.programs = Path(folder), Path(programs).resolve()
        self.database = f"larkauth_kubernetes_{os.getpid()}"
        self.server = os.environ["LARKAUTH_TEST_DATABASE_URL"]
        self.sql(f"create database {self.database}")
        (self.folder / "secrets").mkdir()
        (self.folder / "spool").mkdir()
        key = base64.b64encode(os.urandom(32)).decode()
        parts = urlsplit(self.server)
        for name, text in {
            "database-url": urlunsplit(parts._replace(path="/" + self.database)),
            "amqp-url": "amqp://127.0.0.1:1/%2f",
            "encryption-keys": f"main:{key}\n",
        }.items():
            file = self.folder / "secrets" / name
            file.write_text(text)
            file.chmod(0o440)
        self.drop = []
        if os.getuid() == 0 and shutil.which("setpriv"):
            self.drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
            self.folder.chmod(0o755)
            for path in self.folder.rglob("*"):
                # As the kubelet does: root's files for the group of fsGroup, a folder of the group for the volume.
                os.chown(path, USER if path.name == "spool" else 0, USER)

    def sql(self, statement):
        subprocess.run(["psql", "--quiet", "--no-psqlrc", self.server, "--command", statement], check=True, timeout=30)

    def environment(self, shared, container):
        variables = {**shared, **{v["name"]: v["value"] for v in container.get("env", [])}}
        if "envFrom" not in container:
            variables = {v["name"]: v["value"] for v in container.get("env", [])}
        for name, value in variables.items():
            value = value.replace(SECRETS, str(self.folder / "secrets")).replace(SPOOL, str(self.folder / "spool"))
            if name in ("HTTP_ADDR", "PUBLIC_HTTP_ADDR"):
                host, port = value.rsplit(":", 1)
                value = f"127.0.0.1:{int(port) + 30000}"
            variables[name] = value
        return variables

    def start(self, name, arguments, environment):
        program = self.folder / name
        # Where the user without rights can run it.
        if not program.exists():
            shutil.copy(self.programs / name, program)
            program.chmod(program.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
        log = (self.folder / f"{name}.log").open("w")
        return subprocess.Popen([*self.drop, program, *arguments], env=environment, cwd="/", stdout=log, stderr=log)


def run(deployments, job, cli, shared, programs):
    """Yields what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(folder, programs)
        running = {}
        try:
            container = job["spec"]["template"]["spec"]["containers"][0]
            migrate = machine.start("larkauth", container["args"], machine.environment({}, container))
            if migrate.wait(120):
                yield f"the migration ended with {migrate.returncode}: {(Path(folder) / 'larkauth.log').read_text()}"
                return
            container = cli["spec"]["template"]["spec"]["containers"][0]
            command = machine.start("larkauth", ["apps", "list"], machine.environment(shared, container))
            if command.wait(30):
                yield f"`larkauth apps list` ended with {command.returncode}: {(Path(folder) / 'larkauth.log').read_text()}"
            for item in deployments:
                container = item["spec"]["template"]["spec"]["containers"][0]
                environment = machine.environment(shared, container)
                process = machine.start(f"larkauth-{container['name']}", container.get("args", []), environment)
                running[container["name"]] = (process, environment, item)
            for name, (process, environment, item) in running.items():
                address = "http://" + environment["HTTP_ADDR"]
                probes = item["spec"]["template"]["spec"]["containers"][0]
                startup = probes["startupProbe"]
                checks = [
                    eventually(address + startup["httpGet"]["path"], 200, startup["periodSeconds"] * startup["failureThreshold"]),
                    eventually(address + probes["readinessProbe"]["httpGet"]["path"], 200, 30),
                    eventually(address + "/metrics", 200, 5),
                ]
                if name == "gateway":
                    public = "http://" + environment["PUBLIC_HTTP_ADDR"]
                    checks += [eventually(public + path, wanted, 5) for path, wanted in PUBLIC.items()]
                yield from (f"{name}: {wrong}" for wrong in checks if wrong)
            for name, (process, _, item) in running.items():
                process.send_signal(signal.SIGTERM)
            for name, (process, _, item) in running.items():
                grace = item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
                try:
                    if process.wait(grace):
                        yield f"{name}: ended with {process.returncode}: {(Path(folder) / f'larkauth-{name}.log').read_text()[-2000:]}"
                except subprocess.TimeoutExpired:
                    yield f"{name}: has not ended after {grace} s"
        finally:
            for process, _, _ in running.values():
                process.kill()
            machine.sql(f"drop database {machine.database} with (force)")
