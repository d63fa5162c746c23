"""What is shipped, and what `outrider inject` makes of manifests, against the Kubernetes schemas."""
import json
import pathlib
import subprocess
import sys

import jsonpatch
import kubernetes_validate
import yaml

binary, tools = sys.argv[1], pathlib.Path(sys.argv[2])
here = pathlib.Path(__file__).parent
root = here.parent.parent
VERSION = kubernetes_validate.latest_version()
FOREIGN = ("cert-manager.io", "monitoring.coreos.com", "example.org")


def run(*words, given=None, status=0):
    done = subprocess.run([str(word) for word in words], input=given, capture_output=True, text=True)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def valid(text, what):
    found = documents(text)
    for one in found:
        for member in one.get("items", []) if one["kind"] == "List" else [one]:
            if not member["apiVersion"].startswith(FOREIGN):
                kubernetes_validate.validate(member, VERSION, strict=True)
    print(f"{what}: {len(found)} documents, valid")
    return found


# inject: idempotent, undone without a trace, valid, and what is not changed is as it was
cases = sorted((here / "cases").glob("*.yaml"))
for case in cases:
    text = case.read_text()
    injected = run(binary, "inject", "-f", case)
    assert run(binary, "inject", "-f", "-", given=injected) == injected, f"{case}: twice is not once"
    removed = run(binary, "inject", "--remove", "-f", "-", given=injected)
    before, after = documents(text), documents(removed)
    for document in before + after:
        (document.get("metadata") or {}).pop("creationTimestamp", None)
    assert before == after, f"{case}: not undone"
    found = valid(injected, case.name)
    assert text.startswith(injected[:text.index("---\napiVersion: v1\nkind: Pod")]), "an untouched document was changed"
    assert text[text.index("---\napiVersion: v1\nkind: Pod\nmetadata: {name: alone"):] == \
        injected[injected.index("---\napiVersion: v1\nkind: Pod\nmetadata: {name: alone"):], "an untouched document was changed"
    for comment in ("# the agent itself", "# by name", "# in flow style", "0440", "'it''s'"):
        assert comment in injected, comment
    asjson = json.loads(run(binary, "inject", "--json", "-f", case))
    assert asjson["manifest"] == injected and len(asjson["objects"]) == 9, asjson["objects"]
    # as `kubectl get -o json` has it
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents(text)}, indent=2)
    assert documents(run(binary, "inject", "-f", "-", given=listed))[0]["items"][1] == found[1]

# what cannot have a sidecar: nothing goes out
for name, pod, why in [
    ("a uid that is the sidecar's", {"containers": [{"name": "a", "image": "b", "securityContext": {"runAsUser": 15001}}]}, "sidecar's user"),
    ("of the pod", {"securityContext": {"runAsUser": 15001}, "containers": [{"name": "a", "image": "b"}]}, "sidecar's user"),
    ("the node's network", {"hostNetwork": True, "containers": [{"name": "a", "image": "b"}]}, "hostNetwork"),
    ("one PID namespace", {"shareProcessNamespace": True, "containers": [{"name": "a", "image": "b"}]}, "shareProcessNamespace"),
    ("privileged", {"containers": [{"name": "a", "image": "b", "securityContext": {"privileged": True}}]}, "privileged"),
    ("capabilities", {"containers": [{"name": "a", "image": "b", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}, "NET_ADMIN"),
    ("a proxy of its own", {"containers": [{"name": "a", "image": "b", "env": [{"name": "https_proxy", "value": "x"}]}]}, "https_proxy"),
    ("a name that is ours", {"containers": [{"name": "outrider", "image": "b"}]}, "rename it"),
    ("a volume that is ours", {"containers": [{"name": "a", "image": "b"}], "volumes": [{"name": "outrider-run"}]}, "rename it"),
    ("no pod", {}, "no pod in it"),
]:
    manifest = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": dict({"containers": None}, **pod)})
    done = subprocess.run([binary, "inject", "-f", "-"], input=manifest, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout and why in done.stderr, (name, done)
for annotation, why in [("mdoe: explicit", "no such annotation"), ("mode: both", "`explicit` or `transparent`"), ("probe-port: '80'", "from 1024")]:
    manifest = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{outrider.dev/{annotation}}}}}\nspec: {{containers: [{{name: a}}]}}\n"
    done = subprocess.run([binary, "inject", "-f", "-"], input=manifest, capture_output=True, text=True)
    assert done.returncode == 1 and why in done.stderr, (annotation, done)
for text, why in [("containers: {a: b, a: c}\n", "line 3: the key `a` is there twice"), ("spec:\n  containers: &x\n  - <<: *x\n", "line"), ("containers: !t 1\n", "tags"), ("containers: [\n", "line")]:
    done = subprocess.run([binary, "inject", "-f", "-"], input="apiVersion: v1\n---\n" + text, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and why in done.stderr, (text, done)
print("refusals: as they should be")

# what is shipped
kubectl = tools / "kubectl"
rendered = {}
for name in ("base", "cert-manager", "monitoring", "example"):
    rendered[name] = valid(run(kubectl, "kustomize", root / "deploy/kubernetes" / name), f"deploy/kubernetes/{name}")
config = {one["metadata"]["name"]: one for one in rendered["example"] if one["kind"] == "ConfigMap"}["outrider"]
example = run(kubectl, "kustomize", root / "deploy/kubernetes/example")
valid(run(binary, "inject", "-f", "-", given=example), "the example, injected")

helm = tools / "helm"
if not helm.exists():
    print("skipped: the chart (no helm, and no go to build it with)")
    sys.exit(0)
chart = root / "deploy/helm/outrider"
run(helm, "lint", "--strict", "--kube-version", "1.34.0", chart)


def charted(*words):
    return run(helm, "template", "outrider", chart, "--namespace", "outrider-system", "--kube-version", "1.34.0", *words)


for words in [[], ["--set", "certificate.certManager=true,monitoring=true"], ["--set", "sidecar.mode=explicit,sidecar.strict=true,require=false"],
              ["--set", "networkPolicy=false,podDisruptionBudget=false,sidecar.allowLoopback=true"],
              ["--set", "certificate.secret=mine,certificate.caBundle=PEM"]]:
    valid(charted(*words), f"chart {' '.join(words)}")
for words in [["--set", "sidecar.mode=both"], ["--set", "replica=3"], ["--set", "certificate.secret=mine"]]:
    done = subprocess.run([str(helm), "template", "x", str(chart), "--kube-version", "1.34.0", *words], capture_output=True, text=True)
    assert done.returncode != 0, words


def same(one):
    """What has to be the same in chart and base."""
    one = json.loads(json.dumps(one))
    one["metadata"].pop("labels", None)
    one["metadata"].setdefault("namespace", "outrider-system")
    for hook in one.get("webhooks", []):
        hook["clientConfig"].pop("caBundle", None)
    for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        container.pop("imagePullPolicy", None)
        defaults = {"--config=outrider", "--uid=15001", "--dns=any"}
        container["args"] = [word for word in container["args"] if word not in defaults]
    return one


base = {one["kind"]: same(one) for one in rendered["base"] if one["kind"] != "Namespace"}
made = {one["kind"]: same(one) for one in documents(charted()) if one["kind"] != "Secret"}
difference = jsonpatch.make_patch(base, made).patch
assert not difference, f"chart and base differ: {difference}"
print("chart and base: the same objects")
