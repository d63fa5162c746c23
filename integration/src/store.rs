//! A real Redis or Valkey as a process: on a port of its own, with its files in a directory of its
//! own, killed at the end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::{PATIENCE, Setup, until};

/// The user of the sidecars in [`Store::start`], and what it may do: no more than the reference asks
/// for. The password follows.
pub const ACL: &str = "~outrider:* resetchannels &outrider:wake -@all +eval +evalsha +script|load +info +time \
                       +get +set +del +hget +hset +hmget +hdel +hlen +zadd +zrem \
                       +zrangebyscore +zrevrange +zremrangebyscore +publish +subscribe";

/// What a store keeps on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Every write, on the disk within a second.
    Appended,
}

/// A running store.
#[derive(Debug)]
pub struct Store {
    binary: PathBuf,
    directory: TempDir,
    kept: Kept,
    acl: String,
    /// Without TLS, for the test itself.
    plain: u16,
    /// For the sidecars; none of a server that was built without it.
    tls: Option<u16>,
    child: Option<Child>,
}

impl Store {
    /// The server of this machine: what `OUTRIDER_REDIS` names, else `redis-server` or
    /// `valkey-server` on the `PATH`. Says so when there is none.
    pub fn binary() -> Option<PathBuf> {
        let named = std::env::var_os("OUTRIDER_REDIS").map(PathBuf::from);
        let found = named.or_else(|| {
            let path = std::env::var_os("PATH")?;
            let all = std::env::split_paths(&path).flat_map(|directory| {
                ["redis-server", "valkey-server"].map(|name| directory.join(name))
            });
            all.into_iter().find(|file| file.is_file())
        });
        if found.is_none() {
            eprintln!("skipped: no redis-server on the PATH and no OUTRIDER_REDIS");
        }
        found
    }

    /// Starts a store with the user `outrider`, whose password is `secret`.
    pub fn start(binary: &Path, kept: Kept) -> Self {
        Self::with_acl(binary, kept, ACL)
    }

    /// The same, where the user may do that.
    pub fn with_acl(binary: &Path, kept: Kept, acl: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("store-").tempdir().unwrap();
        certify(directory.path());
        let mut store = Self {
            binary: binary.to_owned(),
            directory,
            kept,
            acl: acl.to_owned(),
            plain: free_port(),
            tls: speaks_tls(binary).then(free_port),
            child: None,
        };
        store.run();
        store
    }

    fn run(&mut self) {
        let directory = self.directory.path();
        let file = |name: &str| directory.join(name).display().to_string();
        fs::write(
            file("users.acl"),
            format!(
                "user default on nopass ~* &* +@all\nuser outrider on >secret {}\n",
                self.acl
            ),
        )
        .unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(file("log"))
            .unwrap();
        let appended = if self.kept == Kept::Appended {
            "yes"
        } else {
            "no"
        };
        let options = [
            ("port", self.plain.to_string()),
            ("bind", "127.0.0.1".into()),
            ("aclfile", file("users.acl")),
            ("dir", directory.display().to_string()),
            ("save", String::new()),
            ("appendonly", appended.into()),
            ("appendfsync", "everysec".into()),
        ];
        let mut command = Command::new(&self.binary);
        for (name, value) in &options {
            command.arg(format!("--{name}")).arg(value);
        }
        if let Some(port) = self.tls {
            command.arg("--tls-port").arg(port.to_string());
            command.args(["--tls-auth-clients", "no"]);
            for (option, name) in [
                ("--tls-cert-file", "server.pem"),
                ("--tls-key-file", "server.key"),
                ("--tls-ca-cert-file", "ca.pem"),
            ] {
                command.arg(option).arg(file(name));
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the store starts"));
        until("the store", || {
            (self.ask(&["PING"])? == "+PONG").then_some(())
        });
    }

    /// Where it is, for the sidecars.
    pub fn url(&self) -> String {
        match self.tls {
            Some(port) => format!("rediss://outrider@localhost:{port}/0"),
            None => format!("redis://outrider@localhost:{}/0", self.plain),
        }
    }

    /// The authority that vouches for it, where it speaks TLS.
    pub fn ca(&self) -> Option<PathBuf> {
        self.tls.map(|_| self.directory.path().join("ca.pem"))
    }

    /// Lets a sidecar share through it.
    #[must_use]
    pub fn shared(&self, setup: Setup) -> Setup {
        setup.file("store-password", "secret\n");
        setup.config(|config| {
            config["state"] = serde_json::json!({
                "store": self.url(),
                "password": "${file:store-password}",
                "ca": self.ca(),
            });
        })
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts it again, with what it kept.
    pub fn start_again(&mut self) {
        self.kill();
        self.run();
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running store").id();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Asks something, as its administrator; the first line of the answer, and the text of a bulk
    /// string.
    pub fn ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.plain)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.extend([&format!("${}\r\n", word.len()), *word, "\r\n"]);
        }
        stream.write_all(command.as_bytes()).ok()?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        match line.strip_prefix('$').map(str::parse::<usize>) {
            Some(Ok(length)) => {
                let mut text = vec![0; length];
                answer.read_exact(&mut text).ok()?;
                String::from_utf8(text).ok()
            }
            _ => Some(line),
        }
    }

    /// The names of all keys.
    pub fn keys(&self) -> Vec<String> {
        let keys = "return table.concat(redis.call('KEYS', '*'), '\\n')";
        let all = self.ask(&["EVAL", keys, "0"]).unwrap_or_default();
        all.lines().map(str::to_owned).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the server was built with TLS; says so when it was not.
fn speaks_tls(binary: &Path) -> bool {
    // It refuses an option that it does not know, and otherwise that there is nothing to listen on.
    let tried = Command::new(binary)
        .args(["--port", "0", "--tls-port", "0", "--maxclients", "none"])
        .output();
    let said = tried.map(|output| [output.stdout, output.stderr].concat());
    let speaks = said.is_ok_and(|said| String::from_utf8_lossy(&said).contains("maxclients"));
    if !speaks {
        eprintln!("{} was built without TLS", binary.display());
    }
    speaks
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// An authority, and a certificate of `localhost` from it.
fn certify(directory: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
    write("ca.pem", ca_pem);
    write("server.pem", server.pem());
    write("server.key", key.serialize_pem());
}

/// How long after a store began anew nothing is admitted yet, and a little more.
pub const RECOVERY: Duration = Duration::from_millis(2_500);
