"""Checks deploy/kubernetes. Run by scripts/test-kubernetes, which installs what this imports."""

import copy
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "deploy/kubernetes"
VERSIONS = ["1.37", "1.36", "1.35"]
COMPONENTS = ["application", "autoscaling", "prometheus-operator", "spool-claims"]
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
SERVICES = ["auth-worker", "gateway", "token-refresher"]
# What calls the broker and Lark.
CALLERS = [*SERVICES, "cli"]
# Custom resources, of which the schemas know nothing.
CUSTOM = {"ServiceMonitor"}
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
# What docs/operations/kubernetes.md tells the operator to create.
MANUAL = TOP / "docs/operations/kubernetes.md"
NO_REGISTRY = "registry.invalid"
# An id that is neither in the repository nor in the manual.
APP_ID = "cli_fedcba9876543210"
SECRETS = {"larkauth-database", "larkauth-database-owner", "larkauth-broker", "larkauth-encryption-keys", "larkauth-application"}


def render(folder):
    """Returns the objects that `kubectl kustomize` makes of a folder."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        sys.exit(f"error: {folder}: {done.stderr.strip()}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def render_with(overlay, components):
    """As a user's own overlay would: an overlay and components on top of it."""
    with tempfile.TemporaryDirectory(dir=FOLDER / "overlays") as folder:
        lines = [f"resources: [../{overlay}]", f"components: [{', '.join('../../components/' + c for c in components)}]"]
        head = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "namespace: larkauth"]
        if "application" in components:
            lines.append(f"configMapGenerator: [{{name: larkauth-application, literals: [APP_ID={APP_ID}]}}]")
        Path(folder, "kustomization.yaml").write_text("\n".join(head + lines))
        return render(folder)


def render_manual():
    """The folders of the manual, each as `kubectl kustomize` makes it, with another application's id."""
    blocks = re.findall(r"^( *)```yaml\n *# (company/(\S+)/kustomization\.yaml)\n(.*?)^ *```$", MANUAL.read_text(), re.M | re.S)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "larkauth").symlink_to(TOP)
        for indent, name, _, text in blocks:
            file = Path(folder, name)
            file.parent.mkdir(parents=True)
            text, found = re.subn(r"\bcli_\w+", APP_ID, re.sub(f"^{indent}", "", text, flags=re.M))
            if "larkauth-application" in text and not found:
                sys.exit(f"error: {name}: the manual gives no application")
            file.write_text(text)
        return {name: render(Path(folder, "company", name)) for _, _, name, text in blocks if "kind: Kustomization" in text}


def schema_errors(objects):
    for version in VERSIONS:
        for item in objects:
            if item["kind"] in CUSTOM:
                continue
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except Exception as error:  # noqa: BLE001, its classes differ by version
                yield f"{title(item)}: {version}: {getattr(error, 'message', error)}"


def title(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def of_kind(objects, *kinds):
    return [item for item in objects if item["kind"] in kinds]


def selects(selector, labels):
    """Whether a label selector matches labels."""
    wanted = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "In":
            raise ValueError(rule)
        wanted = wanted and labels.get(rule["key"]) in rule["values"]
    return wanted


def pods(objects):
    """Yields the title, the labels and the spec of every Pod template."""
    for item in of_kind(objects, *WORKLOADS):
        template = item["spec"].get("jobTemplate", item)["spec"]["template"]
        yield title(item), template["metadata"]["labels"], template["spec"]


def ports(spec):
    return {port["name"]: port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}


def restricted_errors(objects):
    """The restricted profile of the Pod security standards, and what goes beyond it here."""
    for name, _, spec in pods(objects):
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") != 65532:
            yield f"{name}: does not run as the user 65532"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: has no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token of the Kubernetes API"
        for volume in spec.get("volumes", []):
            kinds = set(volume) - {"name"}
            if not kinds <= {"secret", "projected", "emptyDir", "configMap", "persistentVolumeClaim"}:
                yield f"{name}: the volume {volume['name']} is {kinds}"
        for container in spec["containers"]:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: has privileges"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: writes to its root file system"
            if "memory" not in container["resources"].get("limits", {}):
                yield f"{name}: has no limit of memory"


def probe_errors(objects):
    """Probes as docs/operations/health.md describes the addresses, and a grace period that the processes can use."""
    grace = int(settings(objects).get("SHUTDOWN_GRACE_SECONDS", 25))
    for name, labels, spec in pods(objects):
        if labels[COMPONENT] not in SERVICES:
            continue
        container = spec["containers"][0]
        for probe, path in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
            target = container.get(probe, {}).get("httpGet", {})
            if (target.get("path"), target.get("port")) != (path, "http"):
                yield f"{name}: {probe} asks {target}"
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        if spec["terminationGracePeriodSeconds"] < pause + grace + 10:
            yield f"{name}: is killed before its work is finished"
        listens = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        for setting, port in [("HTTP_ADDR", "http"), ("PUBLIC_HTTP_ADDR", "public")]:
            if setting in listens and listens[setting] != f"0.0.0.0:{ports(spec).get(port)}":
                yield f"{name}: {setting} is not the port {port}"
        if "http" not in ports(spec):
            yield f"{name}: has no port http"


def settings(objects):
    return {key: value for item in of_kind(objects, "ConfigMap") for key, value in item["data"].items()}


def variables_of(container, maps):
    """The variables of a container, those that come from ConfigMaps as these say; None for one that is not there."""
    found = {}
    for source in container.get("envFrom", []):
        found.update(maps.get(source["configMapRef"]["name"], {}))
    for variable in container.get("env", []):
        value = variable.get("value")
        if "valueFrom" in variable:
            source = variable["valueFrom"]["configMapKeyRef"]
            value = maps.get(source["name"], {}).get(source["key"])
        found[variable["name"]] = value
    return found


def setting_errors(objects):
    """Every variable is a setting, every secret is a file of a mounted Secret, and no Secret is in the repository."""
    known = set(re.findall(r"^\| `([A-Z_]+)`", (TOP / "docs/settings.md").read_text(), re.M))
    secret = set(re.findall(r"^\| `([A-Z_]+)`.*Secret\. \|$", (TOP / "docs/settings.md").read_text(), re.M))
    if of_kind(objects, "Secret"):
        yield "a Secret is in the repository"
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    for name, _, spec in pods(objects):
        container = spec["containers"][0]
        variables = variables_of(container, maps)
        for source in container.get("envFrom", []):
            if source["configMapRef"]["name"] not in maps:
                yield f"{name}: there is no ConfigMap {source['configMapRef']['name']}"
        # A service refuses to start with one and not the other.
        if ("APP_ID" in variables) != ("APP_SECRET_FILE" in variables):
            yield f"{name}: only one of APP_ID and APP_SECRET_FILE"
        if variables.get("APP_ID", APP_ID) != APP_ID:
            yield f"{name}: APP_ID is {variables['APP_ID']}, and the overlay says {APP_ID}"
        mounted = {}
        for volume in spec.get("volumes", []):
            sources = volume.get("projected", {}).get("sources", [])
            if "secret" in volume:
                sources = [{"secret": volume["secret"]}]
            mount = next((m["mountPath"] for m in container["volumeMounts"] if m["name"] == volume["name"]), None)
            if mount is None:
                yield f"{name}: the volume {volume['name']} is not mounted"
            for source in sources:
                source = source["secret"]
                of = source.get("name") or source.get("secretName")
                if of not in SECRETS:
                    yield f"{name}: the Secret {of} is not one of those that the manual creates"
                paths = [item["path"] for item in source.get("items", [])] or ["app-secret"]
                mounted.update({f"{mount}/{path}": of for path in paths})
        for variable, value in variables.items():
            if value is None:
                yield f"{name}: {variable} comes from a ConfigMap that does not have it"
            setting = variable.removesuffix("_FILE")
            if variable not in known and setting not in known:
                yield f"{name}: {variable} is not a setting"
            if variable in secret:
                yield f"{name}: {variable} is a secret; give it as {variable}_FILE"
            if setting in secret and variable != setting and value not in mounted:
                yield f"{name}: {variable} is {value}, which no Secret is mounted at"


def jobs_of_rules():
    """The values of `job` in the expressions of the alert rules."""
    text = (TOP / "deploy/prometheus/rules/alerts.yml").read_text()
    return {job for jobs in re.findall(r'\bjob=~?"([^"]+)"', text) for job in jobs.split("|")}


def reference_errors(objects):
    """What an object names exists: Pods, Services, ports, workloads."""
    templates = list(pods(objects))
    services = {item["metadata"]["name"]: item for item in of_kind(objects, "Service")}
    for item in services.values():
        found = [spec for _, labels, spec in templates if selects({"matchLabels": item["spec"]["selector"]}, labels)]
        if len(found) != 1:
            yield f"{title(item)}: selects {len(found)} workloads"
        for port in item["spec"]["ports"]:
            if any(ports(spec).get(port["targetPort"]) != port["port"] for spec in found):
                yield f"{title(item)}: no port {port['targetPort']} of {port['port']}"
    for item in of_kind(objects, "NetworkPolicy", "PodDisruptionBudget"):
        selector = item["spec"].get("podSelector", item["spec"].get("selector"))
        found = [spec for _, labels, spec in templates if selects(selector, labels)]
        if not found:
            yield f"{title(item)}: selects no Pod"
        for rule in item["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if any(port["port"] not in ports(spec) for spec in found):
                    yield f"{title(item)}: no port {port['port']}"
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        scaled = [w for w in of_kind(objects, target["kind"]) if w["metadata"]["name"] == target["name"]]
        if len(scaled) != 1 or "replicas" in scaled[0]["spec"]:
            yield f"{title(item)}: scales {target['kind']}/{target['name']}, which is not there or has a number of its own"
    for item in of_kind(objects, "ServiceMonitor"):
        for service in SERVICES:
            named = services.get(f"larkauth-{service}")
            port_names = [port["name"] for port in named["spec"]["ports"]] if named else []
            if not named or not selects(item["spec"]["selector"], named["metadata"]["labels"]):
                yield f"{title(item)}: does not see larkauth-{service}"
            elif item["spec"]["endpoints"][0]["port"] not in port_names:
                yield f"{title(item)}: larkauth-{service} has no such port"
            elif (job := named["metadata"]["labels"].get(item["spec"].get("jobLabel"), f"larkauth-{service}")) not in jobs_of_rules():
                yield f"{title(item)}: the job {job} of larkauth-{service} is in no alert rule"
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        for spread in item["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], item["spec"]["template"]["metadata"]["labels"]):
                yield f"{title(item)}: spreads other Pods"
        if not selects(item["spec"]["selector"], item["spec"]["template"]["metadata"]["labels"]):
            yield f"{title(item)}: does not select its own Pods"


def network_errors(objects):
    """Only the public routes are published, and everything else is denied by default."""
    for item in of_kind(objects, "Ingress"):
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if path["path"] not in ("/oauth/callback", "/lark/callback"):
                    yield f"{title(item)}: publishes {path['path']}"
                if (backend["name"], backend["port"]["name"]) != ("larkauth-gateway-public", "public"):
                    yield f"{title(item)}: {path['path']} leads to {backend}"
        if not item["spec"].get("tls"):
            yield f"{title(item)}: has no TLS"
    policies = of_kind(objects, "NetworkPolicy")
    denied = [p for p in policies if p["spec"]["podSelector"] == {} and sorted(p["spec"]["policyTypes"]) == ["Egress", "Ingress"]]
    if not any("ingress" not in p["spec"] and "egress" not in p["spec"] for p in denied):
        yield "NetworkPolicy: nothing is denied by default"
    for item in policies:
        for rule in item["spec"].get("ingress", []):
            if not rule.get("from") or not rule.get("ports"):
                yield f"{title(item)}: admits everything"
    # Every Pod reaches the database; the services and the command line reach broker and Lark.
    for name, labels, _ in pods(objects):
        out = {port["port"] for p in policies if selects(p["spec"]["podSelector"], labels)
               for rule in p["spec"].get("egress", []) for port in rule.get("ports", [])}
        wanted = {53, 5432} | ({5671, 5672, 443} if labels[COMPONENT] in CALLERS else set())
        if policies and not wanted <= out:
            yield f"{name}: cannot reach the ports {sorted(wanted - out)}"


def spool_errors(objects):
    """Every service has a folder for the spool that its user may write to."""
    folder = settings(objects).get("ESCROW_SPOOL_DIR", "/var/lib/larkauth/escrow")
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        spec = item["spec"]["template"]["spec"]
        mounts = [m for m in spec["containers"][0]["volumeMounts"] if folder.startswith(m["mountPath"] + "/")]
        claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
        volumes = [volume["name"] for volume in spec["volumes"] if "emptyDir" in volume]
        if len(mounts) != 1 or [mounts[0]["name"]] != claims + volumes:
            yield f"{title(item)}: ESCROW_SPOOL_DIR {folder} is on {mounts}"


def connection_errors(objects):
    """PostgreSQL's default permits the connections of all Pods: docs/operations/kubernetes.md has the rule."""
    scaled = {item["spec"]["scaleTargetRef"]["name"]: item["spec"]["maxReplicas"] for item in of_kind(objects, "HorizontalPodAutoscaler")}
    most = int(settings(objects).get("DATABASE_MAX_CONNECTIONS", 10))
    # The command line, the migration, and what PostgreSQL keeps for superusers.
    needed = most + 1 + 3
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        name = item["metadata"]["name"]
        # One Pod that starts, and one that ends; a StatefulSet replaces a Pod after it has ended.
        rollout = 1 + item["spec"]["strategy"]["rollingUpdate"]["maxSurge"] if item["kind"] == "Deployment" else 0
        processes = scaled.get(name, item["spec"].get("replicas", 1)) + rollout
        # A gateway listens for changes on a connection of its own.
        needed += processes * (most + (name == "larkauth-gateway"))
    if needed > 100:
        yield f"the Pods need {needed} connections of the database, and PostgreSQL has 100"


def cli_errors(objects):
    """The command line runs only when an operator asks for it, with the secrets of the services and for a limited time."""
    for item in of_kind(objects, "CronJob"):
        if item["spec"].get("suspend") is not True:
            yield f"{title(item)}: runs by itself"
        if "activeDeadlineSeconds" not in item["spec"]["jobTemplate"]["spec"]:
            yield f"{title(item)}: has no end"
        command = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        service = pod_of(objects, f"{of_kind(objects, 'Deployment', 'StatefulSet')[0]['kind']}/larkauth-auth-worker")
        if command["volumes"] != [volume for volume in service["volumes"] if volume["name"] == "secrets"]:
            yield f"{title(item)}: has other secrets than the services"
        if command["containers"][0]["envFrom"] != service["containers"][0]["envFrom"]:
            yield f"{title(item)}: has other settings than the services"


def version_errors(objects):
    version = re.search(r'^version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
    for name, labels, spec in pods(objects):
        image = spec["containers"][0]["image"]
        if not image.endswith(f":{version}"):
            yield f"{name}: {image} is not of version {version}"
        # A name without a registry is pulled from Docker Hub, from its owner there.
        if not image.startswith((f"{NO_REGISTRY}/", "registry.example.com/")):
            yield f"{name}: {image} may come from a registry that is not yours"
        if labels[COMPONENT] == "migrate" and not name.endswith("-" + re.sub(r"[^a-z0-9]", "-", version)):
            yield f"{name}: is not named after version {version}"


CHECKS = [schema_errors, restricted_errors, probe_errors, setting_errors, reference_errors, network_errors, spool_errors, cli_errors, connection_errors, version_errors]


def errors(objects):
    return [error for check in CHECKS for error in check(objects)]


def find(objects, name):
    return next(item for item in objects if title(item) == name)


def find_map(objects):
    return next(item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"].startswith("larkauth-"))


def set_image(objects, image):
    pod_of(objects, "Deployment/larkauth-gateway")["containers"][0].update(image=image)


def pod_of(objects, name):
    return find(objects, name)["spec"]["template"]["spec"]


# Mistakes that a check has to find, each in a good rendering.
MISTAKES = {
    "an unknown field": lambda o: find(o, "Deployment/larkauth-gateway")["spec"].update(replica=1),
    "a value of the wrong type": lambda o: find(o, "PodDisruptionBudget/larkauth-gateway")["spec"].update(maxUnavailable=[]),
    "a root user": lambda o: pod_of(o, "Deployment/larkauth-gateway")["securityContext"].update(runAsUser=0),
    "a writable root": lambda o: pod_of(o, "Deployment/larkauth-gateway")["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
    "a token of the API": lambda o: pod_of(o, "Deployment/larkauth-auth-worker").pop("automountServiceAccountToken"),
    "liveness by readiness": lambda o: pod_of(o, "Deployment/larkauth-gateway")["containers"][0]["livenessProbe"]["httpGet"].update(path="/readyz"),
    "an early kill": lambda o: pod_of(o, "Deployment/larkauth-gateway").update(terminationGracePeriodSeconds=30),
    "an unknown setting": lambda o: pod_of(o, "Deployment/larkauth-gateway")["containers"][0]["env"].append({"name": "HTTP_ADR", "value": "x"}),
    "a secret in a variable": lambda o: pod_of(o, "Deployment/larkauth-gateway")["containers"][0]["env"].append({"name": "API_KEY", "value": "x"}),
    "the id of an application without its secret": lambda o: find_map(o)["data"].update(APP_ID=APP_ID),
    "a secret without a file": lambda o: pod_of(o, "Deployment/larkauth-gateway")["volumes"].pop(0),
    "a Service without Pods": lambda o: find(o, "Service/larkauth-gateway")["spec"]["selector"].update({COMPONENT: "gate"}),
    "an autoscaler of nothing": lambda o: find(o, "HorizontalPodAutoscaler/larkauth-auth-worker")["spec"]["scaleTargetRef"].update(name="worker"),
    "a monitor of nothing": lambda o: find(o, "ServiceMonitor/larkauth")["spec"]["endpoints"][0].update(port="metrics"),
    "a monitor with other jobs than the rules": lambda o: find(o, "ServiceMonitor/larkauth")["spec"].pop("jobLabel"),
    "more Pods than the database has connections": lambda o: find(o, "HorizontalPodAutoscaler/larkauth-gateway")["spec"].update(maxReplicas=10),
    "a published API": lambda o: find(o, "Ingress/larkauth")["spec"]["rules"][0]["http"]["paths"][0].update(path="/v1"),
    "the private listener": lambda o: find(o, "Ingress/larkauth")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="larkauth-gateway"),
    "no default": lambda o: o.remove(find(o, "NetworkPolicy/default-deny")),
    "no way to the broker": lambda o: o.remove(find(o, "NetworkPolicy/services-to-broker-and-lark")),
    "no way from the command line to Lark": lambda o: [p["spec"]["podSelector"]["matchExpressions"][0]["values"].remove("cli")
                                                       for p in of_kind(o, "NetworkPolicy") if title(p).endswith("/services-to-broker-and-lark")],
    "no spool": lambda o: pod_of(o, "Deployment/larkauth-gateway")["volumes"].pop(),
    "another version": lambda o: set_image(o, "registry.invalid/larkauth/gateway:latest"),
    "an image of Docker Hub": lambda o: set_image(o, re.sub(".*/", "larkauth/", pod_of(o, "Deployment/larkauth-gateway")["containers"][0]["image"])),
}


def run_processes(programs):
    """Runs the migration and the services with the variables, files and rights of the manifests."""
    import kubernetes_run

    objects = render(FOLDER / "overlays/small")
    job = of_kind(render(FOLDER / "migrate"), "Job")[0]
    cli = of_kind(objects, "CronJob")[0]["spec"]["jobTemplate"]
    found = list(kubernetes_run.run(of_kind(objects, "Deployment"), job, cli, settings(objects), programs))
    for error in found:
        print(error)
    print(f"the processes of the manifests, without a container: {len(found)} errors")
    return 1 if found else 0


def main():
    if sys.argv[1:2] == ["--run"]:
        return run_processes(sys.argv[2])
    rendered = {
        "overlays/small": render(FOLDER / "overlays/small"),
        "overlays/ha": render(FOLDER / "overlays/ha"),
        "migrate": None,
        "overlays/small + application": render_with("small", ["application"]),
        "overlays/ha + application + spool-claims": render_with("ha", ["application", "spool-claims"]),
    }
    manual = render_manual()
    # The policies that the Job lives under are those of an overlay.
    migrate = render(FOLDER / "migrate")
    rendered["migrate"] = migrate + of_kind(rendered["overlays/ha"], "NetworkPolicy", "Deployment", "ConfigMap")
    # Two folders that are applied one after the other.
    rendered["the manual's company/services and company/migrate"] = manual["services"] + manual["migrate"]
    failed = 0
    for name, _, spec in pods([item for objects in manual.values() for item in objects]):
        if spec["containers"][0]["image"].startswith(f"{NO_REGISTRY}/"):
            failed += 1
            print(f"the manual's {name}: has no registry")
    for name, objects in rendered.items():
        found = errors(objects)
        failed += len(found)
        print(f"{name}: {len(objects)} objects, {len(found)} errors")
        for error in found:
            print(f"  {error}")
    missed = 0
    for name, change in MISTAKES.items():
        objects = copy.deepcopy(rendered["overlays/ha"])
        change(objects)
        if not errors(objects):
            missed += 1
            print(f"no check finds the mistake: {name}")
    used = {component.name for component in (FOLDER / "components").iterdir()}
    if used != set(COMPONENTS):
        failed += 1
        print(f"components that this does not know: {sorted(used ^ set(COMPONENTS))}")
    print(f"schemas of Kubernetes {', '.join(VERSIONS)}; {len(MISTAKES)} made mistakes, {missed} not found")
    print("NOT run: an API server (admission, defaulting, `--dry-run=server`). Of ServiceMonitor there is no schema here: only its references are checked.")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
