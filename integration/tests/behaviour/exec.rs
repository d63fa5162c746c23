//! `outrider exec`: an agent beside its sidecar, and one that has no other way out.

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use outrider_integration::{PlainServer, Run, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::OUTRIDER;

/// A directory that other users may look into, with a copy of the program: an isolated agent of root
/// runs as somebody else.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("outrider-desk-")
            .tempdir()
            .unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        fs::copy(OUTRIDER, directory.path().join("outrider")).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn binary(&self) -> PathBuf {
        self.path().join("outrider")
    }
}

/// A sidecar with a forward listener before that server, not started.
fn setup(desk: &Desk, server: &PlainServer) -> Setup {
    let setup = Setup::bare(desk.binary().to_str().unwrap())
        .serving(&json!({
            "name": "web",
            "protocol": "http",
            "upstream": format!("http://{}", server.address()),
            "hosts": ["web.test"],
        }))
        .config(|config| {
            config["listeners"] =
                json!([{"mode": "forward", "address": "127.0.0.1:0", "tls": "intercept"}]);
        });
    setup.write();
    setup
}

fn exec(setup: &Setup, desk: &Desk, options: &[&str], command: &[&str]) -> Run {
    let config = setup.path("outrider.yaml");
    let fixed = ["exec", "--json", "-c", config.to_str().unwrap()];
    setup.run_in(
        desk.path(),
        &[&fixed[..], options, &["--"], command].concat(),
    )
}

/// The last line of what was said.
fn summary(run: &Run) -> Value {
    let last = run.stderr.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {run:?}"))
}

fn log(setup: &Setup) -> Vec<Value> {
    let text = fs::read_to_string(setup.path("decisions.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A request as `bash` makes one through the proxy that the variables name.
const ASK: &str = r#"
proxy=${HTTP_PROXY##*@}; user=${HTTP_PROXY#http://}; user=${user%@*}
exec 3<>"/dev/tcp/${proxy%:*}/${proxy##*:}"
printf 'GET http://web.test/ HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\nProxy-Authorization: Basic %s\r\n\r\n' \
    "$(printf %s "$user" | base64 -w0)" >&3
head -n 1 <&3
"#;

/// Answers one request.
fn answer(server: PlainServer) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut connection = server.accept();
        connection.request().unwrap();
        connection
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    })
}

#[test]
fn an_agent_is_run_under_a_task_of_its_own_and_its_status_is_passed_on() {
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let answered = answer(server);
    let run = exec(
        &setup,
        &desk,
        &[],
        &["bash", "-c", &format!("{ASK} exit 7")],
    );
    assert_eq!(run.status, 7, "{run:?}");
    assert!(run.stdout.starts_with("HTTP/1.1 200 "), "{run:?}");
    answered.join().unwrap();
    let told = summary(&run);
    assert_eq!(told["calls"], 1);
    assert_eq!(told["slowest"][0]["tool"], "web/GET");
    let decisions = log(&setup);
    let line = decisions
        .iter()
        .find(|line| line["type"] == "decision")
        .unwrap();
    assert_eq!(line["task_source"], "token");
    assert_eq!(line["isolation"], "none");
    let security = fs::read_to_string(setup.path("security.jsonl")).unwrap();
    assert!(security.contains("the agent has ended"), "{security}");
}

#[test]
fn a_signal_that_ends_an_agent_is_its_status_and_a_command_that_is_not_there_is_told() {
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let run = exec(&setup, &desk, &[], &["bash", "-c", "kill -9 $$"]);
    assert_eq!(run.status, 137, "{run:?}");
    let run = exec(&setup, &desk, &[], &["zz9-no-such-program"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(
        run.stderr.contains("cannot start `zz9-no-such-program`"),
        "{run:?}"
    );
}

#[test]
fn an_agent_finds_proxy_trust_and_token_in_its_variables() {
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let run = exec(&setup, &desk, &["--quiet"], &["env"]);
    assert_eq!(run.status, 0, "{run:?}");
    let value = |name: &str| {
        let mut lines = run.stdout.lines();
        let found = lines.find_map(|line| line.strip_prefix(&format!("{name}=")));
        found
            .unwrap_or_else(|| panic!("no {name}: {}", run.stdout))
            .to_owned()
    };
    let token = value("OUTRIDER_TASK_TOKEN");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert!(value(name).starts_with(&format!("http://task:{token}@127.0.0.1:")));
    }
    assert_eq!(
        (value("NO_PROXY"), value("no_proxy")),
        (String::new(), String::new())
    );
    let bundle = value("SSL_CERT_FILE");
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        assert_eq!(value(name), bundle);
    }
    for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
        assert_ne!(value(name), bundle);
    }
    assert!(!Path::new(&bundle).exists(), "it is gone with the agent");
}

#[test]
fn where_the_sidecars_files_are_no_agent_is_isolated() {
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let run = setup.run(&["exec", "--isolate", "--", "true"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("start in another directory"), "{run:?}");
}

#[test]
fn the_sidecars_files_are_hidden_also_below_where_the_agent_works() {
    if !namespaces() {
        eprintln!("skipped: this kernel or container allows no user namespaces");
        return;
    }
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let below = desk.path().join("outrider-files");
    fs::create_dir(&below).unwrap();
    fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["outrider.yaml", "data.yaml"] {
        fs::copy(setup.path(name), below.join(name)).unwrap();
        fs::set_permissions(below.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::create_dir(below.join("policy")).unwrap();
    let config = below.join("outrider.yaml");
    let run = setup.run_in(
        desk.path(),
        &[
            "exec",
            "--isolate",
            "-c",
            config.to_str().unwrap(),
            "--",
            "ls",
            "-A",
            ".",
            "outrider-files",
        ],
    );
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stdout.contains("outrider-files:"), "{run:?}");
    assert!(
        !run.stdout.contains("outrider.yaml") && !run.stdout.contains("control.sock"),
        "{run:?}"
    );
}

#[test]
fn what_everybody_uses_is_neither_hidden_nor_worked_in() {
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let config = setup.path("outrider.yaml");
    let run = setup.run_in(
        Path::new("/tmp"),
        &[
            "exec",
            "--isolate",
            "-c",
            config.to_str().unwrap(),
            "--",
            "true",
        ],
    );
    assert_eq!(run.status, 2, "{run:?}");
    assert!(
        run.stderr.contains("start in one of the agent's own"),
        "{run:?}"
    );
    let setup = setup.config(|config| config["ca"] = json!({"key": "/etc/zz9-key.pem"}));
    setup.write();
    let run = exec(&setup, &desk, &["--isolate"], &["true"]);
    assert_eq!(run.status, 2, "{run:?}");
}

/// What a hostile agent tries; a line for each that got somewhere.
const HOSTILE: &str = r#"
import ctypes, os, signal, socket, subprocess, sys
tcp, udp, abstract, config, control, pid, forward = sys.argv[1:]
tried = 0
def attempt(name, what):
    global tried
    tried += 1
    try:
        got = what()
    except Exception:
        return
    print("GOT OUT:", name, got)
def connect(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(2)
    s.connect((host, int(port))); s.sendall(b"zz9"); return True
def datagram(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(1)
    s.sendto(b"zz9", (host, int(port))); s.recv(9); return True
def unix(path):
    s = socket.socket(socket.AF_UNIX); s.connect(path); return True
def inside(words):
    done = subprocess.run(words, capture_output=True, timeout=10)
    assert done.returncode == 0; return done.stdout
def secret(path):
    text = open(path).read(); assert text.strip(); return text[:40]
for name in list(os.environ):
    if "proxy" in name.lower(): del os.environ[name]
attempt("tcp to the host's loopback", lambda: connect("127.0.0.1", tcp))
attempt("tcp over ipv6", lambda: connect("::1", tcp, socket.AF_INET6))
attempt("tcp to another address of the host", lambda: connect("127.0.0.2", tcp))
attempt("tcp to a public address", lambda: connect("192.0.2.1", 443))
attempt("tcp to a public address over ipv6", lambda: connect("2001:db8::1", 443, socket.AF_INET6))
attempt("udp to the host's loopback", lambda: datagram("127.0.0.1", udp))
attempt("quic", lambda: datagram("192.0.2.1", 443))
attempt("dns", lambda: datagram("127.0.0.1", 53))
attempt("a name", lambda: socket.getaddrinfo("zz9.example.org", 443))
attempt("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
attempt("an abstract socket", lambda: unix("\0" + abstract))
attempt("the control socket", lambda: unix(control))
attempt("the configuration", lambda: secret(config))
attempt("the log", lambda: secret(os.path.join(os.path.dirname(config), "decisions.jsonl")))
attempt("the configuration by the sidecar's root", lambda: secret(f"/proc/{pid}/root{config}"))
attempt("the sidecar's descriptors", lambda: [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")])
attempt("killing the sidecar", lambda: os.kill(int(pid), signal.SIGKILL))
attempt("stopping the sidecar", lambda: os.kill(int(pid), signal.SIGSTOP))
libc = ctypes.CDLL(None, use_errno=True)
attempt("tracing the sidecar", lambda: 1 / int(libc.ptrace(16, int(pid), 0, 0) == 0))
attempt("uncovering a directory", lambda: 1 / int(libc.umount2(b"/tmp", 2) == 0))
attempt("uncovering it in namespaces of its own", lambda: inside(["unshare", "-Urm", "umount", "-l", "/tmp"]))
attempt("entering the host's network", lambda: inside(["nsenter", "-t", "1", "-n", "--", "cat", f"/proc/{pid}/net/tcp"]) and connect("127.0.0.1", tcp))
attempt("taking the port", lambda: socket.create_server(("127.0.0.1", int(forward))))
attempt("no_proxy", lambda: inside(["env", "NO_PROXY=*", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{tcp}"]))
print("tried", tried)
"#;

#[test]
fn a_hostile_agent_that_is_isolated_gets_nowhere_but_to_its_sidecar() {
    if !namespaces() {
        eprintln!("skipped: this kernel or container allows no user namespaces");
        return;
    }
    let (desk, server) = (Desk::new(), PlainServer::start());
    let recorder = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = recorder.local_addr().unwrap().port();
    let six = TcpListener::bind(("::1", port)).ok();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("outrider-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let abstracts = UnixListener::bind_addr(&address).unwrap();

    // One sidecar runs already, so that its process can be aimed at.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let sidecar = setup(&desk, &server)
        .config(|config| config["listeners"][0]["address"] = json!(free.to_string()))
        .start();
    fs::write(desk.path().join("hostile.py"), HOSTILE).unwrap();
    let answered = answer(server);
    let hostile = format!(
        "{ASK} python3 hostile.py {port} {} {name} {} {} {} {}",
        datagrams.local_addr().unwrap().port(),
        sidecar.path("outrider.yaml").display(),
        sidecar.path("control.sock").display(),
        sidecar.pid(),
        free.port(),
    );
    let config = sidecar.path("outrider.yaml");
    let run = Command::new(desk.binary())
        .args([
            "exec",
            "--isolate",
            "--json",
            "-c",
            config.to_str().unwrap(),
            "--",
        ])
        .args(["bash", "-c", &hostile])
        .current_dir(desk.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    assert_eq!(run.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("HTTP/1.1 200 "),
        "the way that is meant: {said}"
    );
    assert!(said.contains("tried 25"), "{said}");
    assert!(!said.contains("GOT OUT"), "{said}");
    answered.join().unwrap();

    recorder.set_nonblocking(true).unwrap();
    assert_eq!(recorder.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    if let Some(six) = six {
        six.set_nonblocking(true).unwrap();
        assert_eq!(six.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    datagrams.set_nonblocking(true).unwrap();
    assert_eq!(
        datagrams.recv(&mut [0; 9]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    abstracts.set_nonblocking(true).unwrap();
    assert_eq!(
        abstracts.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let calls = sidecar.decisions();
    assert_eq!(calls.len(), 1, "{calls:?}");
}

#[test]
fn what_is_started_to_be_isolated_says_so() {
    if !namespaces() {
        eprintln!("skipped: this kernel or container allows no user namespaces");
        return;
    }
    let (desk, server) = (Desk::new(), PlainServer::start());
    let setup = setup(&desk, &server);
    let answered = answer(server);
    let run = exec(&setup, &desk, &["--isolate"], &["bash", "-c", ASK]);
    assert_eq!(run.status, 0, "{run:?}");
    answered.join().unwrap();
    let log = log(&setup);
    let line = log.iter().find(|line| line["type"] == "decision").unwrap();
    assert_eq!(line["isolation"], "exec");
}

/// Whether namespaces can be made here at all.
fn namespaces() -> bool {
    let tried = Command::new("unshare").args(["-Urnm", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}
