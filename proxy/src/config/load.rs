//! Reads the configuration and every file it names; what is found wrong is told with its place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use outrider_policy::{Problem, Source, data};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use outrider_schemas::openapi;

use super::{Config, Declared, Service, description, trust::TlsFiles};
use crate::{
    call::ServiceName,
    identify::issuers::Issuers,
    jose::BadSource,
    listen::{
        ca::Authority,
        tls::{self, BadIdentity, Identity},
    },
    protocol::{self, Document, Spoken},
    telemetry,
};

/// The variable by which an injector declares `isolation: container`.
pub const ISOLATION: &str = "OUTRIDER_ISOLATION";

/// Everything that was read, not yet joined.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its file.
    pub file: PathBuf,
    /// The policy data by file.
    pub documents: Vec<(String, data::Document)>,
    /// The user's rules.
    pub sources: Vec<Source>,
    /// What API teams published.
    pub spoken: Vec<(ServiceName, Spoken)>,
    /// What listeners prove themselves by, by their names.
    pub identities: Vec<(String, Identity)>,
    /// The files of `services[].tls`, by service.
    pub tls: Vec<(ServiceName, TlsFiles)>,
    /// The key of the authority behind interception.
    pub ca_key: Option<SecretString>,
    /// Every agent runs in namespaces that `exec --isolate` made.
    pub exec: bool,
    /// Every file and directory that was read, to be watched.
    pub watched: Vec<PathBuf>,
    /// What is wrong with the files beside the configuration, the first of each.
    pub found: Failure,
}

impl Loaded {
    /// A path of the configuration: relative ones are relative to its file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        beside(&self.file, path)
    }

    /// Whose task tokens are believed, with the keys of those who publish them in a file.
    ///
    /// # Errors
    /// What is wrong with the files of their keys and certificate authorities.
    pub fn issuers(&self) -> Result<Issuers, Failure> {
        let (mut all, mut failed) = (Vec::new(), Failure::default());
        for section in &self.config.tasks.issuers {
            match section.open(|path| self.resolve(path)) {
                Ok(issuer) => all.push(issuer),
                Err(bad) => {
                    failed.unopened |= matches!(bad, BadSource::Unreadable { .. });
                    let message = format!("issuer `{}`: {bad}", section.issuer.0);
                    failed.problems.push(self.problem(message));
                }
            }
        }
        if failed.problems.is_empty() {
            Ok(Issuers::new(all))
        } else {
            Err(failed)
        }
    }

    /// To whom what is known of calls is told.
    ///
    /// # Errors
    /// What keeps it from being told there.
    pub fn telemetry(&self) -> Result<telemetry::Plan, telemetry::BadTelemetry> {
        let base = self.file.parent().unwrap_or(Path::new(""));
        self.config.telemetry.plan(base)
    }

    /// The problem with the configuration as a whole.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        problem(&self.file, message)
    }
}

/// What kept files from being read.
#[derive(Debug, Default)]
pub struct Failure {
    /// Everything that was found.
    pub problems: Vec<Problem>,
    /// A file could not be opened at all.
    pub unopened: bool,
}

/// Reads a configuration and the files it names; what is wrong with those is in `found`.
///
/// # Errors
/// The first syntax or type error of the configuration itself.
pub fn load(file: &Path) -> Result<Loaded, Failure> {
    let mut reader = Reader::default();
    let Some(mut config) = reader.yaml::<Config>(file) else {
        return Err(reader.found);
    };
    // The injector vouches for the container, not whoever wrote the file.
    if std::env::var_os(ISOLATION).is_some_and(|word| word == "container") {
        config.isolation = Some(Declared::Container);
    }
    let mut loaded = Loaded {
        config,
        file: file.to_owned(),
        documents: Vec::new(),
        sources: Vec::new(),
        spoken: Vec::new(),
        identities: Vec::new(),
        tls: Vec::new(),
        ca_key: None,
        exec: false,
        watched: Vec::new(),
        found: Failure::default(),
    };
    loaded.documents = loaded
        .config
        .policy
        .data
        .iter()
        .filter_map(|path| reader.document(file, path))
        .collect();
    if let Some(path) = &loaded.config.policy.path {
        loaded.sources = reader.rules(file, path);
    }
    for service in &loaded.config.services {
        let spoken = reader.spoken(file, service);
        loaded
            .spoken
            .extend(spoken.map(|spoken| (service.name.clone(), spoken)));
        let tls = service.tls.as_ref();
        let tls = tls.and_then(|tls| reader.service_tls(file, tls));
        loaded
            .tls
            .extend(tls.map(|tls| (service.name.clone(), tls)));
    }
    for listener in &loaded.config.listeners {
        let tls = listener.identity();
        let identity = tls.and_then(|tls| reader.identity(file, tls));
        loaded
            .identities
            .extend(identity.map(|identity| (listener.name().to_owned(), identity)));
    }
    if let Some(key) = &loaded.config.ca.key {
        loaded.ca_key = reader.ca_key(&beside(file, key));
    }
    loaded.watched = reader.watched;
    loaded.found = reader.found;
    Ok(loaded)
}

/// What is wrong, without the lines around it: one of them may hold a credential.
fn plain(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string()
}

pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent()
        .map_or_else(|| path.to_owned(), |directory| directory.join(path))
}

pub(super) fn problem(file: &Path, message: impl Into<String>) -> Problem {
    Problem {
        file: file.display().to_string(),
        line: 0,
        column: 0,
        message: message.into(),
    }
}

/// Reads the text of a YAML file.
///
/// # Errors
/// The first syntax or type error, with its place.
pub(crate) fn parsed<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Problem> {
    if text.trim_ascii().is_empty() {
        // To YAML it is a document, to its writer a file that was cut: say `{}` to say nothing.
        let empty = problem(file, "is empty: write `{}` if that is meant");
        return Err(Problem {
            line: 1,
            column: 1,
            ..empty
        });
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location();
        let at = |number: Option<u64>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        Problem {
            file: file.display().to_string(),
            line: at(place.map(|place| place.line())),
            column: at(place.map(|place| place.column())),
            message: plain(&error),
        }
    })
}

/// Reads files and keeps what went wrong.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) found: Failure,
    watched: Vec<PathBuf>,
}

impl Reader {
    pub(super) fn text(&mut self, file: &Path) -> Option<String> {
        match self.read(file) {
            Ok(text) => Some(text),
            Err(unread) => {
                self.found.problems.push(unread);
                None
            }
        }
    }

    fn read(&mut self, file: &Path) -> Result<String, Problem> {
        self.watched.push(file.to_owned());
        fs::read_to_string(file).map_err(|failed| {
            self.found.unopened = true;
            problem(file, format!("cannot be read: {}", reason(&failed)))
        })
    }

    fn yaml<T: DeserializeOwned>(&mut self, file: &Path) -> Option<T> {
        let text = self.text(file)?;
        parsed(file, &text)
            .map_err(|problem| self.found.problems.push(problem))
            .ok()
    }

    /// What a listener proves itself by.
    fn identity(&mut self, config: &Path, tls: &tls::Config) -> Option<Identity> {
        let (certificate, key) = (beside(config, &tls.certificate), beside(config, &tls.key));
        let (chain, secret) = (self.text(&certificate), self.text(&key));
        let identity = Identity::read(&chain?, &SecretString::from(secret?));
        let failed = |bad: BadIdentity| {
            let file = match bad {
                BadIdentity::NoKey => &key,
                BadIdentity::NoCertificate | BadIdentity::Unusable(_) => &certificate,
            };
            self.found.problems.push(problem(file, bad.to_string()));
        };
        identity.map_err(failed).ok()
    }

    /// The key of the authority behind interception.
    fn ca_key(&mut self, file: &Path) -> Option<SecretString> {
        let key = SecretString::from(self.text(file)?);
        match Authority::read(&key) {
            Ok(_) => Some(key),
            Err(bad) => {
                self.found.problems.push(problem(file, bad.to_string()));
                None
            }
        }
    }

    /// Policy data, under the name by which the configuration calls it.
    fn document(&mut self, config: &Path, path: &Path) -> Option<(String, data::Document)> {
        self.yaml(&beside(config, path))
            .map(|document| (path.display().to_string(), document))
    }

    /// Every `*.rego` of a directory but its tests, in order of name.
    fn rules(&mut self, config: &Path, path: &Path) -> Vec<Source> {
        let remote = path
            .to_str()
            .is_some_and(|path| path.contains("://") || path.ends_with(".tar.gz"));
        if remote {
            self.found.problems.push(problem(
                config,
                "`policy.path`: bundles are not built yet: name a directory",
            ));
            return Vec::new();
        }
        let directory = beside(config, path);
        self.watched.push(directory.clone());
        let mut files = match rego_files(&directory) {
            Ok(files) => files,
            Err(failed) => {
                self.found.unopened = true;
                self.found.problems.push(problem(
                    &directory,
                    format!("cannot be read: {}", reason(&failed)),
                ));
                return Vec::new();
            }
        };
        files.sort();
        files
            .iter()
            .filter_map(|file| {
                Some(Source {
                    name: file.display().to_string(),
                    text: self.text(file)?,
                })
            })
            .collect()
    }

    /// What a service speaks, of its section and the documents it names.
    fn spoken(&mut self, config: &Path, service: &Service) -> Option<Spoken> {
        let path = service.schemas.as_ref().map(|path| beside(config, path));
        let mut document = path.map(|path| Published { path, reader: self });
        let loaded = (service.protocol.0.load)(&mut protocol::Published {
            service: &service.name,
            settings: service.settings(),
            document: document
                .as_mut()
                .map(|document| document as &mut dyn Document),
        });
        match loaded {
            Ok(spoken) => Some(spoken),
            Err(problems) => {
                let of_the_section = |mut problem: Problem| {
                    if problem.file.is_empty() {
                        problem.file = config.display().to_string();
                    }
                    problem
                };
                let problems = problems.into_iter().map(of_the_section);
                self.found.problems.extend(problems);
                None
            }
        }
    }
}

/// A service's document, read through the reader that keeps what went wrong.
struct Published<'a> {
    path: PathBuf,
    reader: &'a mut Reader,
}

impl Document for Published<'_> {
    fn text(&mut self) -> Result<String, Vec<Problem>> {
        self.reader.read(&self.path).map_err(|unread| vec![unread])
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Vec<Problem>> {
        self.reader.watched.push(self.path.clone());
        description::bytes(&self.path).map_err(|unread| {
            self.reader.found.unopened |= unread.is_unopened();
            vec![self.problem(unread.to_string())]
        })
    }

    fn description(&mut self) -> Result<openapi::Loaded, Vec<Problem>> {
        match description::load(&self.path) {
            Ok(described) => {
                self.reader.watched.extend(described.files);
                Ok(described.loaded)
            }
            Err(unread) => {
                self.reader.watched.push(self.path.clone());
                self.reader.found.unopened |= unread.is_unopened();
                Err(vec![self.problem(unread.to_string())])
            }
        }
    }

    fn problem(&self, message: String) -> Problem {
        problem(&self.path, message)
    }
}

fn rego_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rego_files(&path)?);
        } else if is_rule(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

fn is_rule(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let rego = path
        .extension()
        .is_some_and(|extension| extension == "rego");
    rego && !name.ends_with("_test.rego") && !name.starts_with('.')
}

/// What the system said, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}
