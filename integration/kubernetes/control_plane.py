"""A real API server with its etcd, on loopback, for as long as the `with` lasts."""
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import time
import urllib.request


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Authority:
    """Makes certificates that live a day."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.key, self.certificate = self.folder / "ca.key", self.folder / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                "-subj", "/CN=test authority", "-keyout", str(self.key), "-out", str(self.certificate))

    def leaf(self, name, subject, names=""):
        key, request, made = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("basicConstraints=critical,CA:FALSE\n" + (f"subjectAltName={names}\n" if names else ""))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
                "-keyout", str(key), "-out", str(request))
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self.key),
                "-CAcreateserial", "-days", "1", "-extfile", str(extensions), "-out", str(made))
        return made, key


class Cluster:
    def __init__(self, tools, folder, authority, port):
        self.tools, self.folder, self.authority = tools, folder, authority
        self.url = f"https://127.0.0.1:{port}"
        client, key = authority.leaf("admin", "/O=system:masters/CN=admin")
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(f"""apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{self.url}", certificate-authority: {authority.certificate}}}}}]
users: [{{name: admin, user: {{client-certificate: {client}, client-key: {key}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]
""")
        self.trust = ssl.create_default_context(cafile=authority.certificate)
        self.trust.load_cert_chain(client, key)

    def kubectl(self, *words, given=None, fails=False):
        command = [str(self.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stderr + done.stdout if fails else done.stdout

    def get(self, path):
        return urllib.request.urlopen(self.url + path, context=self.trust, timeout=5).read().decode()


@contextlib.contextmanager
def process(command, log):
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def awaited(what, ready, alive=(), patience=60):
    end, why = time.monotonic() + patience, None
    while time.monotonic() < end:
        for child, log in alive:
            if child.poll() is not None:
                raise AssertionError(f"{what}: it ended with {child.returncode}\n{open(log, errors='replace').read()[-3000:]}")
        try:
            found = ready()
        except Exception as error:
            found, why = None, error
        if found:
            return found
        time.sleep(0.1)
    tails = "\n".join(open(log, errors="replace").read()[-3000:] for _, log in alive)
    raise AssertionError(f"waited in vain for {what}: {why}\n{tails}")


@contextlib.contextmanager
def cluster(tools, folder):
    """An API server with its defaults: RBAC, and the admission plugins that are on."""
    folder = pathlib.Path(folder)
    authority = Authority(folder)
    server, key = authority.leaf("apiserver", "/CN=kube-apiserver", "IP:127.0.0.1,DNS:localhost")
    account = folder / "account.key"
    openssl("genrsa", "-out", str(account), "2048")
    store, peer, port = free_port(), free_port(), free_port()
    etcd = ["etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{store}",
            "--advertise-client-urls", f"http://127.0.0.1:{store}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}"]
    api = [str(tools / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{store}", "--bind-address=127.0.0.1",
           "--advertise-address=127.0.0.1", f"--secure-port={port}", f"--tls-cert-file={server}", f"--tls-private-key-file={key}",
           f"--client-ca-file={authority.certificate}", "--authorization-mode=RBAC", "--service-account-issuer=https://test",
           f"--service-account-key-file={account}", f"--service-account-signing-key-file={account}",
           "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none"]
    os.environ.setdefault("ETCD_UNSUPPORTED_ARCH", "")
    with process(etcd, folder / "etcd.log") as first, process(api, folder / "api.log") as second:
        made = Cluster(tools, folder, authority, port)
        alive = [(first, folder / "etcd.log"), (second, folder / "api.log")]
        awaited("the API server", lambda: made.get("/readyz") == "ok", alive)
        yield made
