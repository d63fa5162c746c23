//! `receiver.yaml`: its shape, and how it becomes what the receiver runs on.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use outrider_policy::Problem;
use secrecy::{SecretSlice, SecretString};
use serde::Deserialize;

use super::{
    intake::Transmitter,
    meaning::Meanings,
    poll::{MOST, Polled},
    push::Sender,
    subject::Subjects,
};
use crate::{
    config::{self, SecurityLog},
    credentials::{Places, Template},
    jose::{self, Location, Source},
    listen::tls::{self, Identity},
    state::{self, redis},
    units::Period,
    upstream::{BadUpstream, TlsRoots, Upstream},
};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who sends tokens.
    pub transmitters: Vec<Section>,
    /// Where tokens are delivered.
    pub listen: Option<Listen>,
    /// The store of the fleet that obeys.
    pub state: Option<state::config::Section>,
    /// Control sockets of the sidecars that obey, where they share no store.
    #[serde(default)]
    pub sidecars: Vec<PathBuf>,
    /// The file of what was dealt with, where they share no store.
    pub seen: Option<PathBuf>,
    /// What was done.
    pub security_log: SecurityLog,
    /// Probes and metrics.
    pub admin: Option<config::Admin>,
}

/// Who sends tokens, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// `iss` of its tokens.
    pub issuer: Name,
    /// Where its keys are.
    pub jwks: Location,
    /// Who vouches for that place; the system's authorities when absent.
    pub ca: Option<PathBuf>,
    /// What is in `aud` of its tokens.
    pub audience: Name,
    /// It delivers.
    pub push: Option<PushSection>,
    /// It is asked.
    pub poll: Option<PollSection>,
    /// What is done about its events.
    #[serde(default)]
    pub map: Meanings,
    /// Whom its subjects are here.
    #[serde(default)]
    pub subjects: Subjects,
    /// How far clocks may be apart.
    pub leeway: Option<Period>,
    /// How old a token may be.
    pub max_age: Option<Period>,
    /// How often its keys are read.
    pub refresh: Option<Period>,
    /// How long its keys serve.
    pub max_stale: Option<Period>,
}

/// A transmitter that delivers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushSection {
    /// The bearer token of its requests.
    pub bearer: Template,
}

/// A transmitter that is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollSection {
    /// Where.
    pub url: Url,
    /// Who vouches for that place; the system's authorities when absent.
    pub ca: Option<PathBuf>,
    /// The bearer token of our requests.
    pub bearer: Template,
    /// The least between two requests of which the first brought nothing.
    pub interval: Option<Period>,
    /// How long a request may wait for tokens.
    pub wait: Option<Period>,
    /// The most tokens of one answer.
    pub max_events: Option<usize>,
}

/// Where tokens are delivered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// A TCP address.
    pub address: SocketAddr,
    /// What is proved there; plain HTTP is for loopback addresses.
    pub tls: Option<tls::Config>,
    /// The path of deliveries.
    #[serde(default = "events")]
    pub path: String,
}

fn events() -> String {
    "/events".into()
}

/// A name that others write as well: 1 to 256 visible ASCII characters.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits =
            (1..=256).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(name.into()))
        } else {
            Err("expected 1 to 256 visible characters, such as `https://idp.example.org`")
        }
    }
}

/// An `https://` URL, or `http://` on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Url(Upstream);

/// An URL that cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadUrl {
    /// It is none.
    #[error(transparent)]
    Url(#[from] BadUpstream),
    /// The tokens would come over a network in the clear.
    #[error("expected an `https://` URL: `http://` is for loopback addresses only")]
    Unprotected,
}

impl TryFrom<String> for Url {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        let at = Upstream::parse(&text)?;
        if at.is_protected() {
            Ok(Self(at))
        } else {
            Err(BadUrl::Unprotected)
        }
    }
}

const LEEWAY: Duration = Duration::from_secs(5);
const MAX_AGE: Duration = Duration::from_hours(7 * 24);
const LONGEST_AGE: Duration = Duration::from_hours(90 * 24);
const LONGEST_LEEWAY: Duration = Duration::from_mins(5);
const INTERVAL: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_mins(1);
const MAX_EVENTS: usize = 32;

/// The least bytes of a bearer token that lets others revoke.
const BEARER: usize = 16;

/// What a receiver runs on.
#[derive(Debug)]
pub struct Settings {
    /// Where deliveries come in.
    pub listen: Option<Listening>,
    /// Who delivers.
    pub senders: Vec<Sender>,
    /// Who is asked.
    pub polled: Vec<Polled>,
    /// Who obeys.
    pub obeys: Obeys,
    /// The security log.
    pub security_log: PathBuf,
    /// Probes and metrics.
    pub admin: Option<SocketAddr>,
}

/// Where deliveries come in.
#[derive(Debug)]
pub struct Listening {
    /// The address.
    pub address: SocketAddr,
    /// What is proved there.
    pub tls: Option<Identity>,
    /// The path.
    pub path: String,
}

/// Who obeys.
#[derive(Debug)]
pub enum Obeys {
    /// A fleet.
    Fleet(Box<redis::Settings>),
    /// Sidecars, and the file of what was dealt with.
    Sidecars {
        /// Their control sockets.
        sockets: Vec<PathBuf>,
        /// The file.
        seen: PathBuf,
    },
}

/// Reads a configuration and every file it names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Settings, Vec<Problem>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| vec![problem(file, format!("cannot be read: {error}"))])?;
    let config: Config = config::parsed(file, &text).map_err(|problem| vec![problem])?;
    let base = file.parent().unwrap_or(Path::new(""));
    let mut reader = Reader {
        base,
        env: &env,
        found: Vec::new(),
    };
    let settings = reader.settings(config);
    let found = reader.found;
    settings
        .filter(|_| found.is_empty())
        .ok_or_else(|| found.iter().map(|text| problem(file, text)).collect())
}

fn problem(file: &Path, message: impl Into<String>) -> Problem {
    Problem {
        file: file.display().to_string(),
        line: 0,
        column: 0,
        message: message.into(),
    }
}

/// Joins the parts, and keeps what went wrong.
struct Reader<'a, E> {
    base: &'a Path,
    env: &'a E,
    found: Vec<String>,
}

impl<E: Fn(&str) -> Option<String>> Reader<'_, E> {
    fn settings(&mut self, config: Config) -> Option<Settings> {
        if config.transmitters.is_empty() {
            self.found.push(
                "`transmitters` is empty: name at least one, with `issuer`, `jwks`, `audience` and `push` or `poll`".into(),
            );
        }
        let obeys = self.obeys(&config);
        let listen = config.listen.and_then(|listen| self.listening(listen));
        let (mut senders, mut polled, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for section in config.transmitters {
            if names.contains(&section.issuer.0) {
                self.wrong(
                    &section.issuer,
                    "the issuer is named twice: give it one stream",
                );
            }
            names.push(Arc::clone(&section.issuer.0));
            self.transmitter(&section, &mut senders, &mut polled);
        }
        self.together(listen.is_some(), &senders);
        Some(Settings {
            listen,
            senders,
            polled,
            obeys: obeys?,
            security_log: self.base.join(config.security_log.path),
            admin: config.admin.map(|admin| admin.address),
        })
    }

    fn together(&mut self, listens: bool, senders: &[Sender]) {
        use secrecy::ExposeSecret as _;
        match (listens, senders.is_empty()) {
            (false, false) => self.found.push(
                "`listen` is missing: a transmitter with `push` needs an address to deliver to"
                    .into(),
            ),
            (true, true) if self.found.is_empty() => self.found.push(
                "`listen` is for transmitters with `push`: there is none, so leave it out".into(),
            ),
            _ => {}
        }
        for (at, sender) in senders.iter().enumerate() {
            let mut others = senders.iter().take(at);
            let bearer = sender.bearer.expose_secret();
            if others.any(|other| other.bearer.expose_secret() == bearer) {
                let text = format!(
                    "`transmitters`: `{}` has the bearer token of another: give each its own",
                    sender.transmitter.issuer
                );
                self.found.push(text);
            }
        }
    }

    fn wrong(&mut self, issuer: &Name, text: impl std::fmt::Display) {
        self.found
            .push(format!("`transmitters`: `{}`: {text}", issuer.0));
    }

    fn obeys(&mut self, config: &Config) -> Option<Obeys> {
        match (&config.state, config.sidecars.is_empty()) {
            (Some(_), false) | (None, true) => {
                let text = "say who obeys: `state: {store: redis://…}` for a fleet, or `sidecars: [SOCKET, …]`; one of them";
                self.found.push(text.into());
                None
            }
            (Some(section), true) => {
                if config.seen.is_some() {
                    let text =
                        "`seen` is for `sidecars`: with a fleet it is the store that remembers";
                    self.found.push(text.into());
                }
                match section.settings(self.base, self.env) {
                    Ok(Some(settings)) => Some(Obeys::Fleet(Box::new(settings))),
                    Ok(None) => {
                        let text = "`state.store`: expected `redis://…`: nobody else reads what is kept elsewhere; for sidecars on this host use `sidecars`";
                        self.found.push(text.into());
                        None
                    }
                    Err(bad) => {
                        self.found.push(bad.to_string());
                        None
                    }
                }
            }
            (None, false) => {
                let Some(seen) = &config.seen else {
                    let text = "`seen` is missing: name a file for what was dealt with";
                    self.found.push(text.into());
                    return None;
                };
                let whole = |path: &PathBuf| self.base.join(path);
                Some(Obeys::Sidecars {
                    sockets: config.sidecars.iter().map(whole).collect(),
                    seen: self.base.join(seen),
                })
            }
        }
    }

    fn listening(&mut self, listen: Listen) -> Option<Listening> {
        if listen.tls.is_none() && !listen.address.ip().is_loopback() {
            let text =
                "`listen`: plain HTTP is for loopback addresses: give `tls: {certificate, key}`";
            self.found.push(text.into());
        }
        if !listen.path.starts_with('/') || listen.path.contains(['?', '#']) {
            self.found
                .push("`listen.path`: expected a path such as `/events`".into());
        }
        let tls = match &listen.tls {
            Some(files) => Some(self.identity(files)?),
            None => None,
        };
        Some(Listening {
            address: listen.address,
            tls,
            path: listen.path,
        })
    }

    fn identity(&mut self, files: &tls::Config) -> Option<Identity> {
        let certificate = self.text("listen.tls.certificate", &files.certificate);
        let key = self.text("listen.tls.key", &files.key);
        let read = Identity::read(&certificate?, &SecretString::from(key?));
        read.map_err(|bad| self.found.push(format!("`listen.tls`: {bad}")))
            .ok()
    }

    fn text(&mut self, key: &str, path: &Path) -> Option<String> {
        let path = self.base.join(path);
        let read = std::fs::read_to_string(&path);
        read.map_err(|error| {
            let text = format!("`{key}`: cannot read `{}`: {error}", path.display());
            self.found.push(text);
        })
        .ok()
    }

    fn transmitter(
        &mut self,
        section: &Section,
        senders: &mut Vec<Sender>,
        polled: &mut Vec<Polled>,
    ) {
        let Section { push, poll, .. } = section;
        match (push, poll) {
            (Some(push), None) => {
                let bearer = self.bearer(&section.issuer, &push.bearer);
                let transmitter = self.known(section);
                if let (Some(bearer), Some(transmitter)) = (bearer, transmitter) {
                    senders.push(Sender {
                        transmitter,
                        bearer,
                    });
                }
            }
            (None, Some(poll)) => polled.extend(self.polled(section, poll)),
            (Some(_), Some(_)) | (None, None) => {
                self.wrong(&section.issuer, "give `push` or `poll`, one of them");
            }
        }
    }

    fn known(&mut self, section: &Section) -> Option<Arc<Transmitter>> {
        let max_age = section.max_age.map_or(MAX_AGE, |age| age.0);
        if max_age > LONGEST_AGE {
            self.wrong(&section.issuer, "`max_age` is at most 90d");
        }
        let leeway = section.leeway.map_or(LEEWAY, |leeway| leeway.0);
        if leeway > LONGEST_LEEWAY {
            self.wrong(&section.issuer, "`leeway` is at most 5m");
        }
        let location = section.jwks.clone().resolved(|path| self.base.join(path));
        let usual = jose::Settings::new(Arc::clone(&section.issuer.0), location);
        let keys = jose::Settings {
            ca: section.ca.as_ref().map(|path| self.base.join(path)),
            refresh: section.refresh.map_or(usual.refresh, |refresh| refresh.0),
            max_stale: section.max_stale.map_or(usual.max_stale, |stale| stale.0),
            ..usual
        };
        let source = Source::open(keys).map_err(|bad| {
            self.wrong(&section.issuer, format_args!("`jwks`: {bad}"));
        });
        Some(Arc::new(Transmitter {
            issuer: Arc::clone(&section.issuer.0),
            audience: section.audience.0.to_string(),
            source: source.ok()?,
            meanings: section.map.clone(),
            subjects: section.subjects.clone(),
            leeway,
            max_age,
        }))
    }

    fn polled(&mut self, section: &Section, poll: &PollSection) -> Option<Polled> {
        let issuer = &section.issuer;
        let most = poll.max_events.unwrap_or(MAX_EVENTS);
        if !(1..=MOST).contains(&most) {
            self.wrong(issuer, format_args!("`poll.max_events` is 1 to {MOST}"));
        }
        let bearer = self.bearer(issuer, &poll.bearer);
        let roots = match &poll.ca {
            Some(path) => {
                let pem = self.text("poll.ca", path)?;
                TlsRoots::from_pem(&pem)
            }
            None if poll.url.0.is_secure() => TlsRoots::system(),
            None => TlsRoots::none(),
        };
        let roots = roots.map_err(|bad| self.wrong(issuer, format_args!("`poll.ca`: {bad}")));
        Some(Polled {
            transmitter: self.known(section)?,
            at: poll.url.0.clone(),
            roots: roots.ok()?,
            bearer: bearer?,
            interval: poll.interval.map_or(INTERVAL, |interval| interval.0),
            wait: poll.wait.map_or(WAIT, |wait| wait.0),
            most,
        })
    }

    fn bearer(&mut self, issuer: &Name, template: &Template) -> Option<SecretSlice<u8>> {
        use secrecy::ExposeSecret as _;
        let places = Places {
            base: self.base,
            env: self.env,
            token: None,
        };
        match template.fill(&places) {
            Ok(bearer) => {
                let text = bearer.expose_secret();
                if text.len() < BEARER || !text.iter().all(u8::is_ascii_graphic) {
                    let text = format!(
                        "the bearer token has to be at least {BEARER} visible characters, without `Bearer `: make one with `openssl rand -hex 32`"
                    );
                    self.wrong(issuer, text);
                }
                Some(bearer)
            }
            Err(bad) => {
                self.wrong(issuer, format_args!("`bearer`: {bad}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
