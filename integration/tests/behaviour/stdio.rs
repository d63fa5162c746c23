//! `outrider stdio`: between a client and the server that it starts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use outrider_integration::{Address, Agent, Request, Setup, Sidecar, until};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, hi};

/// An MCP server of an older revision: says in the file `heard` what it hears, and its own number in
/// the file `number`.
const SERVER: &str = r#"
cd "$(dirname "$0")"; echo $$ > number; echo "${OUTRIDER_TASK_TOKEN-none}" > token
echo "a word of the server" >&2
trap 'echo told > told; exit 9' TERM
say() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
while IFS= read -r line; do
    printf '%s\n' "$line" >> heard
    id=$(sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p' <<<"$line")
    case "$line" in
    *'"initialize"'*) say '"id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *'"notifications/'*) ;;
    *'"tools/list"'*) say '"id":'$id',"result":{"tools":[{"name":"echo","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"additionalProperties":false}},{"name":"erase","inputSchema":{"type":"object"}}]}' ;;
    *'"leave"'*) exit 7 ;;
    *'"mumble"'*) echo "no message"; say '"id":'$id',"result":{"content":[{"type":"text","text":"mumbled"}]}' ;;
    *'"hang"'*) ;;
    *'"step"'*)
        say '"method":"notifications/progress","params":{"progressToken":"p","progress":1}'
        say '"method":"notifications/message","params":{"level":"info","data":"heard by all"}'
        read -r next; printf '%s\n' "$next" >> heard
        say '"id":'$id',"result":{"content":[{"type":"text","text":"stepped"}]}' ;;
    *'"tools/call"'*) say '"id":'$id',"result":{"content":[{"type":"text","text":"said"}]}' ;;
    *) say '"id":'$id',"error":{"code":-32601,"message":"what?"}' ;;
    esac
done
echo over > over
"#;

/// A sidecar that knows that server as `local`, not started; what it may not call is `erase`.
fn setup() -> Setup {
    let setup = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "local", "protocol": "mcp", "upstream": "stdio", "schemas": "local.json",
        }))
        .data(|data| data["grants"][0]["tools"] = json!(["local/echo"]));
    setup.file("server", SERVER);
    let server = setup.path("server");
    let lock = ["schemas", "lock", "-o", "local.json", "--", "bash"];
    let run = setup.run(&[&lock[..], &[server.to_str().unwrap()]].concat());
    assert_eq!(run.status, 0, "{run:?}");
    fs::remove_file(setup.path("heard")).unwrap();
    setup.write();
    setup
}

/// A client that started that server through the wrapper.
struct Client {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    /// One that has no token: the wrapper opens the task.
    fn start(setup: &Setup, options: &[&str]) -> Self {
        Self::with(setup, options, None)
    }

    fn with(setup: &Setup, options: &[&str], token: Option<&str>) -> Self {
        let mut command = Command::new(OUTRIDER);
        command
            .args(["stdio", "--service", "local"])
            .args(options)
            .args(["--", "bash"])
            .arg(setup.path("server"))
            .current_dir(setup.path("."))
            .env_remove("OUTRIDER_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(setup.path("stderr")).unwrap());
        if let Some(token) = token {
            command.env("OUTRIDER_TASK_TOKEN", token);
        }
        let mut process = command.spawn().unwrap();
        Self {
            stdin: process.stdin.take(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn say(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{message}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line:?}"))
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        let answer = self.hear();
        assert_eq!(answer["id"], message["id"], "{answer}");
        answer
    }

    /// As every client of an older revision begins.
    fn initialize(&mut self) {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        let answer =
            self.ask(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
        assert_eq!(answer["result"]["serverInfo"]["name"], "s", "{answer}");
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }

    fn call(&mut self, id: &Value, message: &str) -> Value {
        self.ask(&call(id, "echo", message))
    }

    /// It has no more to say.
    fn end(mut self) -> ExitStatus {
        self.stdin.take();
        self.process.wait().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn call(id: &Value, tool: &str, message: &str) -> Value {
    let params = json!({"name": tool, "arguments": {"message": message}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

fn read(setup: &Setup, name: &str) -> String {
    fs::read_to_string(setup.path(name)).unwrap_or_default()
}

fn decisions(setup: &Setup) -> Vec<Value> {
    let log = read(setup, "decisions.jsonl");
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] == "decision").collect()
}

/// Whether a process is still there.
fn is_alive(number: &str) -> bool {
    fs::exists(format!("/proc/{}", number.trim())).unwrap()
}

#[test]
fn a_client_starts_its_server_with_a_sidecar_before_it() {
    let setup = setup();
    let mut client = Client::start(&setup, &[]);
    client.initialize();
    assert_eq!(text(&client.call(&json!(1), "hi")), "said");
    assert_eq!(text(&client.call(&json!("one"), "hi")), "said");
    let refused = client.ask(&call(&json!(2), "erase", "everything"));
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert!(text(&refused).contains("policy_denied"), "{refused}");
    let listed = client.ask(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 1, "{listed}");
    assert_eq!(tools[0]["name"], "echo");
    assert_eq!(client.end().code(), Some(0));

    let heard = read(&setup, "heard");
    assert!(
        heard.contains("\"hi\"") && !heard.contains("everything"),
        "{heard}"
    );
    assert_eq!(
        read(&setup, "over"),
        "over\n",
        "the server saw the end of its input"
    );
    assert_eq!(read(&setup, "token"), "none\n", "the server knows no token");
    assert!(read(&setup, "stderr").contains("a word of the server"));
    let decided: Vec<_> = decisions(&setup)
        .into_iter()
        .filter(|line| line["method"] == "tools/call")
        .map(|line| (line["code"].clone(), line["task_source"].clone()))
        .collect();
    let of = |code: &str| (json!(code), json!("token"));
    assert_eq!(decided, [of("ok"), of("ok"), of("policy_denied")]);
    let security = read(&setup, "security.jsonl");
    assert!(security.contains("task_closed"), "{security}");
}

#[test]
fn what_is_no_message_is_refused_where_it_is_decided_and_does_not_reach_the_server() {
    let setup = setup();
    let mut client = Client::start(&setup, &[]);
    client.initialize();
    for (line, code) in [
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, -32700),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
    ] {
        writeln!(client.stdin.as_mut().unwrap(), "{line}").unwrap();
        let refused = client.hear();
        assert_eq!(refused["error"]["code"], code, "{refused}");
    }
    assert_eq!(text(&client.call(&json!(5), "mumble")), "mumbled");
    assert_eq!(client.end().code(), Some(0));
    assert!(!read(&setup, "heard").contains("ping"));
    assert!(read(&setup, "stderr").contains("no message"));
    let refused = decisions(&setup)
        .into_iter()
        .filter(|line| line["code"] == "call_malformed");
    assert_eq!(refused.count(), 3);
}

#[test]
fn what_the_server_says_before_its_answer_comes_before_it() {
    let setup = setup();
    let mut client = Client::start(&setup, &[]);
    client.initialize();
    let mut step = call(&json!(1), "echo", "step");
    step["params"]["_meta"] = json!({"progressToken": "p"});
    client.say(&step);
    // On the stream of its call, and on that of the session.
    let mut heard = [
        client.hear()["method"].clone(),
        client.hear()["method"].clone(),
    ];
    heard.sort_by_key(ToString::to_string);
    assert_eq!(heard, ["notifications/message", "notifications/progress"]);
    // The server waits for this.
    client.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}));
    assert_eq!(text(&client.hear()), "stepped");
    assert_eq!(client.end().code(), Some(0));
}

#[test]
fn a_server_that_leaves_leaves_its_status_and_an_answer_to_whoever_waits() {
    let setup = setup();
    let mut client = Client::start(&setup, &[]);
    client.initialize();
    let failed = client.call(&json!(1), "leave");
    assert!(text(&failed).contains("upstream_unreachable"), "{failed}");
    assert_eq!(client.process.wait().unwrap().code(), Some(7));
}

#[test]
fn a_signal_is_for_the_server_and_nobody_outlives_the_wrapper() {
    let setup = setup();
    let mut client = Client::start(&setup, &[]);
    client.initialize();
    let wrapper = client.process.id().to_string();
    let told = Command::new("kill").args(["-TERM", &wrapper]).status();
    assert!(told.unwrap().success());
    // Bash hears it once it has read.
    assert_eq!(client.process.wait().unwrap().code(), Some(9));
    assert_eq!(read(&setup, "told"), "told\n");

    let mut client = Client::start(&setup, &[]);
    client.initialize();
    let number = read(&setup, "number");
    assert!(is_alive(&number));
    client.process.kill().unwrap();
    until("the server is gone", || (!is_alive(&number)).then_some(()));
}

#[test]
fn a_running_sidecar_is_used_with_the_token_that_the_agent_has() {
    let sidecar = setup().start();
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("it is TCP");
    };
    let url = format!("http://{address}");
    let task = sidecar.open_task(&[]);
    let setup_of = |name: &str| fs::read_to_string(sidecar.path(name)).unwrap_or_default();
    let start = |token: Option<&str>| {
        let mut command = Command::new(OUTRIDER);
        command
            .args(["stdio", "--service", "local", "--url", &url, "--", "bash"])
            .arg(sidecar.path("server"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        match token {
            Some(token) => command.env("OUTRIDER_TASK_TOKEN", token),
            None => command.env_remove("OUTRIDER_TASK_TOKEN"),
        };
        let mut process = command.spawn().unwrap();
        Client {
            stdin: process.stdin.take(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    };
    let mut client = start(Some(&task.token));
    client.initialize();
    assert_eq!(text(&client.call(&json!(1), "hi")), "said");
    assert_eq!(client.end().code(), Some(0));

    let mut stranger = start(None);
    stranger.initialize();
    let refused = stranger.call(&json!(1), "by nobody");
    assert!(text(&refused).contains("task_missing"), "{refused}");
    assert_eq!(stranger.end().code(), Some(0));
    assert!(!setup_of("heard").contains("by nobody"));
}

#[test]
fn only_a_socket_of_the_callers_own_user_is_dialled_and_only_where_the_service_has_none() {
    let sidecar = setup().start();
    let task = sidecar.open_task(&[]);
    let mut agent = Agent::new(sidecar.listener("reverse"), "/local").with_token(&task.token);
    let refused = |agent: &mut Agent, socket: Option<&str>| {
        let mut request = Request::legacy_call("echo", &hi());
        if let Some(socket) = socket {
            request = request.with("outrider-stdio", socket);
        }
        let answer = agent.send(&request);
        let decision = sidecar.decisions().pop().unwrap();
        (answer.status, decision["code"].as_str().unwrap().to_owned())
    };
    let listener = UnixListener::bind(sidecar.path("sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let path = sidecar.path("sock");
    for socket in [
        None,
        Some("sock:/key".to_owned()),
        Some(format!("{}", path.display())),
        Some(format!("unix:{}", path.display())),
        Some(format!("http:{}:/key", path.display())),
    ] {
        let (_, code) = refused(&mut agent, socket.as_deref());
        assert_eq!(code, "destination_refused", "{socket:?}");
    }
    assert!(listener.accept().is_err(), "nobody came");
    // A socket of the caller's own that is no wrapper's: it is connected to, and told nothing.
    let named = format!("unix:{}:/key", path.display());
    let (_, code) = refused(&mut agent, Some(&named));
    assert_eq!(code, "ok", "it was permitted, and not carried out");
    let (mut came, _) = listener.accept().unwrap();
    let mut heard = Vec::new();
    came.read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    let decision = sidecar.decisions().pop().unwrap();
    let outcome = sidecar.outcome(decision["decision_id"].as_str().unwrap());
    assert_eq!(outcome["code"], "destination_refused", "{outcome}");
}

#[test]
fn a_call_whose_service_is_elsewhere_by_now_does_not_reach_the_callers_socket() {
    let server = crate::support::echo();
    let mut sidecar = setup().start();
    let task = sidecar.open_task(&[]);
    let path = sidecar.path("sock");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let agent = Agent::new(sidecar.listener("reverse"), "/local").with_token(&task.token);
    let named = format!("unix:{}:/key", path.display());
    let call = agent.bytes(&Request::legacy_call("echo", &hi()).with("outrider-stdio", &named));
    let (before, after) = call.split_at(call.len() - 1);
    let mut connection = agent.connect();
    connection.send(before).unwrap();
    let url = server.url();
    // Its head was read before: the listener has nothing more of it to wait for.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let loads =
        |sidecar: &Sidecar| sidecar.metric("outrider_policy_reload_total", &["result=\"ok\""]);
    let at_first = loads(&sidecar);
    sidecar.rewrite(|config, _| {
        config["services"][0]["upstream"] = url.clone().into();
        config["services"][0]["credentials"] =
            json!({"header": "Authorization", "value": "Bearer very-secret"});
    });
    until("it is reloaded", || {
        (loads(&sidecar) > at_first).then_some(())
    });
    connection.send(after).unwrap();
    let answer = connection.answer().unwrap().unwrap();
    assert!(!answer.text().contains("very-secret"));
    let decision = sidecar.decisions().pop().unwrap();
    assert_eq!(decision["outcome"], "deny", "{decision}");
    assert!(listener.accept().is_err(), "nobody came");
    assert!(server.received().is_empty(), "{:?}", server.received());
}

#[test]
fn a_wrapper_whose_descriptors_were_used_up_goes_on_once_they_are_free() {
    let sidecar = setup().start();
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("it is TCP");
    };
    let task = sidecar.open_task(&[]);
    let room = sidecar.path("room");
    fs::create_dir(&room).unwrap();
    let mut process = Command::new("bash")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "-", OUTRIDER, "stdio"])
        .args([
            "--service",
            "local",
            "--url",
            &format!("http://{address}"),
            "--",
            "bash",
        ])
        .arg(sidecar.path("server"))
        .env("OUTRIDER_TASK_TOKEN", &task.token)
        .env("TMPDIR", &room)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = Client {
        stdin: process.stdin.take(),
        stdout: BufReader::new(process.stdout.take().unwrap()),
        process,
    };
    client.initialize();
    let directory = fs::read_dir(&room).unwrap().next().unwrap().unwrap();
    let socket = directory.path().join("sock");
    let many: Vec<_> = (0..100)
        .map_while(|_| UnixStream::connect(&socket).ok())
        .collect();
    assert!(many.len() > 64, "{}", many.len());
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(many);
    assert_eq!(text(&client.call(&json!(1), "hi")), "said");
    assert_eq!(client.end().code(), Some(0));
}
