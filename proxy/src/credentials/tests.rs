use std::{path::PathBuf, rc::Rc};

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::task::Terms;

/// A command that counts how often it ran, and what it says.
struct Rig {
    dir: TempDir,
    fetching: Arc<Fetching>,
}

impl Rig {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            fetching: Arc::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn credential(&self, script: &str) -> Credential {
        let script = format!("echo x >> count; {script}");
        let config = serde_json::json!({"command": {"run": ["sh", "-c", script]}});
        let config: Config = serde_json::from_value(config).unwrap();
        Credential::load(&config, Setting::of("crm", self.dir.path()), None).unwrap()
    }

    fn fetches(&self) -> usize {
        let count = std::fs::read_to_string(self.path("count")).unwrap_or_default();
        count.lines().count()
    }

    /// Fetches for those who ask while `work` runs; nothing is tended.
    async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let keep = self.fetching.keep(TlsRoots::none().unwrap(), None, |_| {});
        tokio::select! {
            () = keep => panic!("the keeper ended"),
            done = work => done,
        }
    }
}

fn fetched(credential: &Credential) -> Arc<Fetched> {
    match &*credential.kind {
        Kind::Fetched(fetched) => Arc::clone(fetched),
        Kind::Still(_) => panic!("it is read"),
    }
}

async fn provided(rig: &Rig, wanted: Wanted) -> Result<String, Unobtained> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "of-the-agent".parse().unwrap());
    let patience = Duration::from_secs(30);
    wanted
        .provide(&rig.fetching, patience, &mut headers)
        .await?;
    let value = headers.get("authorization");
    Ok(value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned()))
}

fn plain(credential: &Credential) -> Wanted {
    credential.wanted(Use {
        task: None,
        token: None,
        tool: None,
    })
}

fn task(id: &str) -> Arc<Task> {
    let now = Timestamp::now();
    Arc::new(Task::new(Terms {
        id: id.into(),
        token_id: "j".into(),
        issuer: "outrider:i".into(),
        key: "k".into(),
        subject: "alice@example.org".into(),
        actors: vec!["spiffe://example.org/agent".into()],
        intent: "work".into(),
        tools: None,
        max_classification: None,
        budget: None,
        opened: now,
        expires: now + Duration::from_hours(1),
        parent: None,
        opened_by: "uid:1".into(),
    }))
}

fn want_of(task: &Arc<Task>) -> Want {
    Want {
        task: Some(Arc::clone(task)),
        token: None,
        scope: None,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn many_who_ask_at_once_share_one_fetch_and_those_who_come_later_its_result() {
    let rig = Rc::new(Rig::new());
    let credential = rig.credential("sleep 0.1; echo s3cret");
    let asking = rig.during(async {
        let local = tokio::task::LocalSet::new();
        let asked = (0..50).map(|_| {
            let (rig, wanted) = (Rc::clone(&rig), plain(&credential));
            local.spawn_local(async move { provided(&rig, wanted).await })
        });
        let asked: Vec<_> = asked.collect();
        local.await;
        for one in asked {
            assert_eq!(one.await.unwrap().unwrap(), "Bearer s3cret");
        }
        provided(&rig, plain(&credential)).await.unwrap();
    });
    asking.await;
    assert_eq!(rig.fetches(), 1);
}

#[test]
fn whoever_asks_on_another_thread_shares_the_same_fetch() {
    let rig = Rig::new();
    let credential = rig.credential("sleep 0.2; echo s3cret");
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    std::thread::scope(|scope| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let keeping = &rig;
        scope.spawn(move || runtime().block_on(keeping.during(async { stopped.await.ok() })));
        let asking = || runtime().block_on(provided(&rig, plain(&credential)));
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(asking)).collect();
        for one in asked {
            assert_eq!(one.join().unwrap().unwrap(), "Bearer s3cret");
        }
        stop.send(()).unwrap();
    });
    assert_eq!(rig.fetches(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_source_that_fails_is_not_asked_again_at_once() {
    let rig = Rig::new();
    let credential = rig.credential("exit 3");
    rig.during(async {
        for _ in 0..20 {
            let refused = provided(&rig, plain(&credential)).await;
            assert_eq!(refused, Err(Unobtained(Fault::Failed(Some(3)))));
        }
    })
    .await;
    assert_eq!(rig.fetches(), 1);
    let report = credential.report(Timestamp::now());
    assert_eq!((report.state, report.fetches), (State::Bad, Some((0, 1))));
    assert!(report.last_error.unwrap().0.contains("status 3"));
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_task_held_goes_with_it_and_what_is_under_way_brings_nothing() {
    let rig = Rig::new();
    let credential = rig.credential("while [ ! -e go ]; do sleep 0.01; done; echo s3cret");
    let fetched = fetched(&credential);
    let (held, under_way) = (task("held"), task("under-way"));
    rig.during(async {
        let want = want_of(&under_way);
        let waiting = fetched.obtain(&want, &rig.fetching);
        let forgetting = async {
            while rig.fetches() == 0 {
                tokio::task::yield_now().await;
            }
            credential.forget_task("outrider:i", "under-way");
            std::fs::write(rig.path("go"), "").unwrap();
        };
        let (outcome, ()) = tokio::join!(waiting, forgetting);
        assert_eq!(outcome.err(), Some(Fault::Ended));
        fetched
            .obtain(&want_of(&held), &rig.fetching)
            .await
            .unwrap();
        fetched
            .obtain(&want_of(&held), &rig.fetching)
            .await
            .unwrap();
        assert_eq!(rig.fetches(), 2);
        credential.forget_task("outrider:i", "held");
        assert_eq!(credential.report(Timestamp::now()).held, 0);
        fetched
            .obtain(&want_of(&held), &rig.fetching)
            .await
            .unwrap();
        assert_eq!(rig.fetches(), 3);
        held.revoke();
        fetched.tend(&rig.fetching, Timestamp::now());
        let ended = fetched.obtain(&want_of(&held), &rig.fetching).await;
        assert_eq!(ended.err(), Some(Fault::Ended));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_task_that_ends_ends_the_wait() {
    let rig = Rig::new();
    let credential = rig.credential("sleep 1000");
    let (fetched, task) = (fetched(&credential), task("t"));
    rig.during(async {
        let want = want_of(&task);
        let waiting = fetched.obtain(&want, &rig.fetching);
        let ending = async {
            while rig.fetches() == 0 {
                tokio::task::yield_now().await;
            }
            task.revoke();
        };
        let (outcome, ()) = tokio::join!(waiting, ending);
        assert_eq!(outcome.err(), Some(Fault::Ended));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_refused_credential_is_given_up_once_and_not_again_at_once() {
    let rig = Rig::new();
    let credential = rig.credential("echo s$(wc -l < count)");
    let fetched = fetched(&credential);
    let want = fetched.want_of_all().unwrap();
    let value = |lease: &Lease| lease.value.to_str().unwrap().replace(' ', "");
    rig.during(async {
        let first = fetched.obtain(&want, &rig.fetching).await.unwrap();
        assert_eq!(value(&first), "Bearers1");
        let now = Timestamp::now();
        fetched.spurn(&want, &first, now);
        let second = fetched.obtain(&want, &rig.fetching).await.unwrap();
        assert_eq!(value(&second), "Bearers2");
        // Of an older one that was refused late, or of this one too soon.
        fetched.spurn(&want, &first, now);
        fetched.spurn(&want, &second, now);
        let third = fetched.obtain(&want, &rig.fetching).await.unwrap();
        assert_eq!(value(&third), "Bearers2");
        fetched.spurn(&want, &third, now + Duration::from_secs(31));
        let fourth = fetched.obtain(&want, &rig.fetching).await.unwrap();
        assert_eq!(value(&fourth), "Bearers3");
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_everybodys_is_fetched_before_it_is_asked_for_and_kept_over_a_reload() {
    let rig = Rig::new();
    let credential = rig.credential("echo s3cret");
    let keep = rig
        .fetching
        .keep(TlsRoots::none().unwrap(), None, |show| show(&credential));
    let held = async {
        while credential.report(Timestamp::now()).held == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = keep => panic!("the keeper ended"),
        () = held => {}
    }
    let again = |config: &Config| {
        let setting = Setting::of("crm", rig.dir.path());
        Credential::load(config, setting, Some(&credential)).unwrap()
    };
    assert_eq!(again(&credential.config).report(Timestamp::now()).held, 1);
    let mut other = (*credential.config).clone();
    other.header = Name::try_from("x-api-key".to_owned()).unwrap();
    let report = again(&other).report(Timestamp::now());
    assert_eq!((report.held, report.fetches), (0, Some((1, 0))));
}

#[tokio::test(flavor = "current_thread")]
async fn without_a_keeper_nothing_is_waited_for() {
    let rig = Rig::new();
    let credential = rig.credential("echo s3cret");
    // It has begun, and is gone.
    rig.during(tokio::task::yield_now()).await;
    let stopped = provided(&rig, plain(&credential)).await;
    assert_eq!(stopped, Err(Unobtained(Fault::Stopped)));
}

/// The agent's own JWT-SVID, in a test.
struct Svid;

impl AgentToken for Svid {
    fn token(
        &self,
        audience: String,
    ) -> Pin<Box<dyn Future<Output = Result<SecretString, Fault>> + Send + '_>> {
        Box::pin(std::future::ready(
            Ok(format!("svid-for-{audience}").into()),
        ))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_agents_svid_is_presented_as_the_actor() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let config = serde_json::json!({"exchange": {
        "token_url": url, "subject_token": "task_token", "actor_token": "svid",
        "assertion_audience": "idp", "scope": "t:{tool}",
    }});
    let config: Config = serde_json::from_value(config).unwrap();
    assert!(config.needs_svid());
    let rig = Rig::new();
    let credential = Credential::load(&config, Setting::of("crm", rig.dir.path()), None).unwrap();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("scope=") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let body = r#"{"access_token":"t","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":60}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        let answer = format!("{head}{}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    };
    let (task, tool) = (
        task("t"),
        ToolId::try_from("crm/look up".to_owned()).unwrap(),
    );
    let wanted = credential.wanted(Use {
        task: Some(&task),
        token: Some(b"their-token"),
        tool: Some(&tool),
    });
    let roots = TlsRoots::none().unwrap();
    let keep = rig.fetching.keep(roots, Some(Arc::new(Svid)), |_| {});
    let (value, request) = tokio::select! {
        () = keep => panic!("the keeper ended"),
        both = async { tokio::join!(provided(&rig, wanted), serving) } => both,
    };
    assert_eq!(value.unwrap(), "Bearer t");
    for part in [
        "subject_token=their-token&",
        "actor_token=svid-for-idp&",
        "scope=t%3Acrm%2Flook%2520up",
        "resource=http%3A%2F%2F127.0.0.1%2Fmcp",
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&",
    ] {
        assert!(request.contains(part), "{part}: {request}");
    }
}

#[test]
fn without_authority_to_act_for_nothing_is_had_or_nothing_is_sent() {
    let config = serde_json::json!({"exchange": {
        "token_url": "http://127.0.0.1:1/", "subject_token": "task_token", "actor_token": "none",
        "scope": "t:{tool}",
    }});
    let config: Config = serde_json::from_value(config).unwrap();
    let setting = Setting::of("crm", std::path::Path::new("/"));
    let credential = Credential::load(&config, setting, None).unwrap();
    let (task, tool) = (
        task("t"),
        ToolId::try_from("crm/lookup".to_owned()).unwrap(),
    );
    let choice = |task, token, tool| credential.wanted(Use { task, token, tool }).want;
    let (task, tool, token) = (Some(&task), Some(&tool), Some(&b"t"[..]));
    assert!(matches!(choice(task, token, tool), Choice::Fetched(_)));
    assert!(matches!(choice(task, token, None), Choice::Nothing));
    assert!(matches!(choice(None, None, None), Choice::Nothing));
    assert!(matches!(
        choice(None, None, tool),
        Choice::Impossible(Fault::NoTask)
    ));
    assert!(matches!(
        choice(task, None, tool),
        Choice::Impossible(Fault::NoTaskToken)
    ));
}

#[test]
fn a_section_names_one_source_and_its_value_has_a_use_for_it() {
    let config = |text: &str| serde_saphyr::from_str::<Config>(text).map_err(|e| e.to_string());
    for (text, said) in [
        ("header: x-a", "`value`, `command`"),
        ("{value: 'Bearer ${token}'}", "`command`"),
        ("{command: {run: [a]}, value: 'Bearer x'}", "`${token}`"),
        (
            "{command: {run: [a]}, client: {token_url: 'https://a/', client_id: a, key: k}}",
            "one of",
        ),
        ("{command: {run: []}}", "a program"),
        ("{command: {run: [a], shell: true}}", "shell"),
        ("{valeu: x}", "valeu"),
    ] {
        let error = config(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    let usual = config("{command: {run: [a]}}").unwrap();
    assert_eq!(usual.header.get(), "authorization");
    let still = config("{header: x-api-key, value: '${env:PATH}'}").unwrap();
    assert!(still.source.is_none());
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let got = Got {
        secret: "s3cret".into(),
        lifetime: Duration::from_secs(1),
    };
    let config: Config =
        serde_saphyr::from_str("{header: authorization, value: 'Basic s3cret'}").unwrap();
    let setting = Setting::of("crm", std::path::Path::new("/"));
    let credential = Credential::load(&config, setting, None).unwrap();
    let wanted = plain(&credential);
    let shown = format!("{got:?} {config:?} {credential:?} {wanted:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_eq!(got.secret.expose_secret(), "s3cret");
}
