"""The injector before a real API server."""
import base64
import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

from control_plane import Authority, awaited, cluster, free_port

binary, tools = sys.argv[1], pathlib.Path(sys.argv[2])
root = pathlib.Path(__file__).parent.parent.parent


class Injector:
    def __init__(self, folder, authority, *words):
        self.port, self.probe = free_port(), free_port()
        certificate, key = authority.leaf("webhook", "/CN=webhook", "IP:127.0.0.1")
        self.command = [binary, "webhook", "--address", f"127.0.0.1:{self.port}", "--probe", f"127.0.0.1:{self.probe}",
                        "--certificate", str(certificate), "--key", str(key), "--image", "outrider:test", *words]
        self.log = folder / "webhook.log"
        self.start()

    def start(self):
        self.output = open(self.log, "ab")
        self.child = subprocess.Popen(self.command, stdout=self.output, stderr=self.output)
        awaited("the injector", lambda: self.get("/readyz") == "ready\n", [(self.child, self.log)])

    def get(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.probe}{path}", timeout=5).read().decode()

    def stop(self):
        self.child.terminate()
        status = self.child.wait(30)
        self.output.close()
        return status

    def counted(self, webhook, outcome):
        want = f'outrider_webhook_admissions_total{{webhook="{webhook}",outcome="{outcome}"}} '
        return sum(float(line.split()[-1]) for line in self.get("/metrics").splitlines() if line.startswith(want))


def rendered(name):
    done = subprocess.run([str(tools / "kubectl"), "kustomize", str(root / "deploy/kubernetes" / name)], capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def hooks(injector, authority):
    """The shipped webhooks; there is no cluster network here, so they are called by address."""
    bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
    for one in rendered("base"):
        if one["kind"].endswith("WebhookConfiguration"):
            for hook in one["webhooks"]:
                path = hook["clientConfig"]["service"]["path"]
                hook["clientConfig"] = {"url": f"https://127.0.0.1:{injector.port}{path}", "caBundle": bundle}
            yield one


def pod_of(workload, name):
    template = copy.deepcopy(workload["spec"]["template"])
    template["metadata"] = dict(template.get("metadata") or {}, name=name, namespace="agents")
    template["spec"].setdefault("serviceAccountName", "default")
    return dict(template, apiVersion="v1", kind="Pod")


def init(pod):
    return [one["name"] for one in pod["spec"].get("initContainers", [])]


# What somebody who writes pods could do to one that is injected already. The sidecar is its second init container.
def sidecar_of(pod):
    return pod["spec"]["initContainers"][1]


TAMPERED = {
    "a library in the sidecar": lambda pod: sidecar_of(pod)["env"].append({"name": "LD_PRELOAD", "value": "/x.so"}),
    "another command of the sidecar": lambda pod: sidecar_of(pod).update(command=["/bin/sleep", "1d"]),
    "a hook of the sidecar": lambda pod: sidecar_of(pod).update(lifecycle={"postStart": {"exec": {"command": ["x"]}}}),
    "no restart of the sidecar": lambda pod: sidecar_of(pod).pop("restartPolicy"),
    "a capability of the sidecar": lambda pod: sidecar_of(pod)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "a mount over the sidecar's configuration": lambda pod: sidecar_of(pod)["volumeMounts"].append({"name": "mine", "mountPath": "/etc/outrider/data"}),
    "a mount that looks like an account's": lambda pod: sidecar_of(pod)["volumeMounts"].append({"name": "kube-api-access-x", "mountPath": "/etc/outrider/data"}),
    "no probe": lambda pod: sidecar_of(pod).pop("startupProbe"),
    "rules for another user": lambda pod: pod["spec"]["initContainers"][0]["args"].__setitem__(5, "10001"),
    "rules in another order": lambda pod: pod["spec"]["initContainers"].reverse(),
    "the control socket in the agent": lambda pod: pod["spec"]["containers"][0]["volumeMounts"].append({"name": "outrider-run", "mountPath": "/stolen"}),
    "trust that can be written": lambda pod: pod["spec"]["containers"][0]["volumeMounts"][-1].pop("readOnly"),
    "a variable twice": lambda pod: pod["spec"]["containers"][0]["env"].append({"name": "SSL_CERT_FILE", "value": "/x"}),
    "escalation": lambda pod: pod["spec"]["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
    "a capability back": lambda pod: pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"].remove("SETUID"),
    "another configuration": lambda pod: next(one for one in pod["spec"]["volumes"] if one["name"] == "outrider-config")["configMap"].update(name="other"),
    "a volume of another kind": lambda pod: [one.pop("emptyDir", None) and one.update(hostPath={"path": "/tmp"}) for one in pod["spec"]["volumes"] if one["name"] == "outrider-run"],
    "a forged note of what was taken": lambda pod: pod["metadata"]["annotations"].update({"outrider.dev/hardened": '{"agent":["escalation-said","NET_RAW","ALL"]}'}),
}

with tempfile.TemporaryDirectory(prefix="outrider-cluster-") as name:
    folder = pathlib.Path(name)
    with cluster(tools, folder) as api:
        authority = Authority(pathlib.Path(tempfile.mkdtemp(dir=folder)))
        injector = Injector(folder, authority, "--require")
        create = lambda one, fails=False: api.kubectl("create", "-f", "-", given=json.dumps(one), fails=fails)
        stored = lambda name: json.loads(api.kubectl("get", "pod", name, "-n", "agents", "-o", "json"))

        # everything that is shipped is taken by the API server
        for one in rendered("base"):
            if not one["kind"].endswith("WebhookConfiguration"):
                create(one)
        mutating, validating = hooks(injector, authority)
        create(mutating), create(validating)
        example = rendered("example")
        workloads = {one["kind"]: one for one in example}
        for one in example:
            create(one)
        create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "agents"}})
        print("applied: the injector's objects and the example")

        # webhooks are known to the API server a moment later; then each pod has its sidecar
        def injected():
            pod = pod_of(workloads["Deployment"], "first")
            api.kubectl("delete", "pod", "first", "-n", "agents", "--ignore-not-found", "--force", "--grace-period=0")
            create(pod)
            return init(stored("first")) == ["outrider-net", "outrider"]
        awaited("the first injected pod", injected)
        pod = stored("first")
        sidecar = pod["spec"]["initContainers"][1]
        assert sidecar["restartPolicy"] == "Always" and sidecar["image"] == "outrider:test", sidecar
        assert sidecar["securityContext"]["runAsUser"] == 15001
        agent = pod["spec"]["containers"][0]
        assert {"name": "SSL_CERT_FILE", "value": "/run/outrider-trust/bundle.pem"} in agent["env"]
        assert agent["securityContext"]["allowPrivilegeEscalation"] is False
        mounted = {one["name"] for one in agent["volumeMounts"]}
        assert mounted == {"outrider-trust"}, mounted
        print("injected: a pod by the API server")

        # what the API server fills in itself is no tampering: defaults, an account's token, a namespace's limits; and a
        # container that is added to look around may be, held as the others are
        create({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "namespace": "agents"},
                "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "10m"}}]}})
        pod = pod_of(workloads["Deployment"], "filled-in")
        pod["spec"].pop("automountServiceAccountToken")
        pod["spec"]["containers"][0].update(ports=[{"containerPort": 80}], livenessProbe={"httpGet": {"path": "/", "port": 80}})
        create(pod)
        filled = stored("filled-in")["spec"]["initContainers"][1]
        assert any(mount["name"].startswith("kube-api-access-") for mount in filled["volumeMounts"]), filled
        assert filled["resources"]["limits"]["cpu"] == "1", filled
        held = {"runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        looking = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "securityContext": held}]}}
        api.kubectl("patch", "pod", "filled-in", "-n", "agents", "--subresource=ephemeralcontainers", "-p", json.dumps(looking))
        print("accepted: what the API server fills in, and an ephemeral container that is held")

        # what was injected by the command is left as it is
        manifest = yaml.safe_dump(pod_of(workloads["Job"], "by-hand"))
        by_hand = subprocess.run([binary, "inject", "--image", "outrider:test", "-f", "-"], input=manifest, capture_output=True, text=True, check=True)
        api.kubectl("create", "-f", "-", given=by_hand.stdout)
        assert init(stored("by-hand")) == ["outrider-net", "outrider"]

        # what somebody changed is put right: another image, no rules, another order
        tampered = yaml.safe_load(by_hand.stdout)
        tampered["metadata"]["name"] = "tampered"
        tampered["spec"]["initContainers"] = [{"name": "before", "image": "x", "securityContext": {"runAsUser": 7}},
                                              dict(tampered["spec"]["initContainers"][1], image="evil:1")]
        create(tampered)
        pod = stored("tampered")
        assert init(pod) == ["outrider-net", "outrider", "before"] and pod["spec"]["initContainers"][1]["image"] == "outrider:test"
        for at, (what, change) in enumerate(TAMPERED.items()):
            tampered = yaml.safe_load(by_hand.stdout)
            tampered["metadata"]["name"] = f"tampered-{at}"
            tampered["spec"]["volumes"] += [{"name": "mine", "emptyDir": {}}, {"name": "kube-api-access-x", "emptyDir": {}}]
            change(tampered)
            create(tampered)
            pod, clean = stored(f"tampered-{at}"), stored("by-hand")
            ours = lambda pod: [{name: value for name, value in one.items() if name != "volumeMounts"} for one in pod["spec"]["initContainers"]]
            assert ours(pod) == ours(clean), what
            mounts = lambda one: sorted((mount["name"], mount["mountPath"], mount.get("readOnly")) for mount in one["volumeMounts"] if "kube-api" not in mount["name"] or mount["mountPath"].startswith("/etc"))
            assert [mounts(one) for one in pod["spec"]["initContainers"]] == [mounts(one) for one in clean["spec"]["initContainers"]], what
            assert mounts(pod["spec"]["containers"][0]) == mounts(clean["spec"]["containers"][0]), what
            assert pod["spec"]["containers"][0]["env"] == clean["spec"]["containers"][0]["env"], what
            held = pod["spec"]["containers"][0]["securityContext"]
            assert held["allowPrivilegeEscalation"] is False and {"NET_RAW", "SETGID", "SETUID", "SETPCAP", "SETFCAP"} <= set(held["capabilities"]["drop"]), what
        print(f"put right: {len(TAMPERED) + 1} pods whose sidecar was changed")

        # refused: what goes round, what says that it wants no sidecar, what decides what is not its own
        def refused(change, why):
            pod = pod_of(workloads["Deployment"], "refused")
            change(pod)
            said = create(pod, fails=True)
            assert why in said, said
            api.kubectl("get", "pod", "refused", "-n", "agents", fails=True)
        refused(lambda pod: pod["metadata"]["labels"].update({"outrider.dev/inject": "disabled"}), "every pod here needs its sidecar")
        refused(lambda pod: pod["spec"].update(hostNetwork=True), "hostNetwork")
        refused(lambda pod: pod["spec"]["containers"][0].update(securityContext={"runAsUser": 15001}), "the sidecar's user")
        refused(lambda pod: pod["metadata"].update(annotations={"outrider.dev/mode": "explicit"}), "decided by the injector")
        refused(lambda pod: pod["metadata"].update(annotations={"outrider.dev/image": "evil:1"}), "decided by the injector")

        # an ephemeral container that could become the sidecar's user
        debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "securityContext": {"runAsUser": 15001}}]}}
        said = api.kubectl("patch", "pod", "first", "-n", "agents", "--subresource=ephemeralcontainers", "-p", json.dumps(debug), fails=True)
        assert "outrider:" in said, said
        print("refused: seven ways round")

        # another certificate, of another authority
        other = Authority(pathlib.Path(tempfile.mkdtemp(dir=folder)))
        made, key = other.leaf("webhook", "/CN=webhook", "IP:127.0.0.1")
        old, old_key = (pathlib.Path(injector.command[injector.command.index(flag) + 1]) for flag in ("--certificate", "--key"))
        old_key.write_bytes(key.read_bytes()), old.write_bytes(made.read_bytes())
        awaited("the certificate to be read", lambda: 'certificate_reload_total{result="ok"}' in injector.get("/metrics"))
        old.write_text("no certificate")
        awaited("the bad one to be refused", lambda: 'certificate_reload_total{result="failed"}' in injector.get("/metrics"))
        for one in hooks(injector, other):
            api.kubectl("replace", "-f", "-", given=json.dumps(one))
        def again():
            api.kubectl("delete", "pod", "second", "-n", "agents", "--ignore-not-found", "--force", "--grace-period=0")
            create(pod_of(workloads["Deployment"], "second"))
            return init(stored("second")) == ["outrider-net", "outrider"]
        awaited("a pod under the new certificate", again)
        print("reloaded: the injector's certificate")

        # the validating webhook alone: no pod without its sidecar
        api.kubectl("delete", "mutatingwebhookconfiguration", "outrider-injector")
        def bare():
            return "the sidecar is not in it" in create(pod_of(workloads["Deployment"], "bare"), fails=True)
        awaited("a bare pod to be refused", bare)
        create(dict(yaml.safe_load(by_hand.stdout), metadata=dict(yaml.safe_load(by_hand.stdout)["metadata"], name="whole")))
        whole = yaml.safe_load(by_hand.stdout)
        for at, (what, change) in enumerate(TAMPERED.items()):
            if what.startswith("a forged note"):
                continue        # what is noted is put right with the rest, or is not needed
            tampered = copy.deepcopy(whole)
            tampered["metadata"]["name"] = f"unmended-{at}"
            tampered["spec"]["volumes"] += [{"name": "mine", "emptyDir": {}}, {"name": "kube-api-access-x", "emptyDir": {}}]
            change(tampered)
            said = create(tampered, fails=True)
            # the API server itself allows no probes without a restart
            assert "not as it was injected" in said or what == "no restart of the sidecar", (what, said)
        print("refused: a pod without its sidecar, and every pod whose sidecar was changed")
        assert injector.counted("mutate", "injected") >= 2 and injector.counted("validate", "refused") >= 2

        # an injector that is away: no pod at all; one that goes finishes what it has
        begin = time.monotonic()
        assert injector.stop() == 0
        assert time.monotonic() - begin > 4, "routes to it were still there"
        said = create(pod_of(workloads["Deployment"], "orphan"), fails=True)
        assert "failed calling webhook" in said, said
        other_namespace = pod_of(workloads["Deployment"], "elsewhere")
        other_namespace["metadata"]["namespace"] = "default"
        create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}})
        create(other_namespace)
        print("failed closed: no injector, no pod; other namespaces do not notice")
