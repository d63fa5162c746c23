//! The control socket: where people and their tools open tasks and take authority back.
//!
//! One connection carries one request, a line of JSON, and one reply. Who asks is what the
//! kernel says; the agent's users are never served. A reply comes after the change it tells of
//! is visible to the next call.

mod access;
pub mod client;
mod decree;
mod judge;
mod keys;
mod socket;
pub mod wire;

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    doctor::Doctor,
    drain::Draining,
    keys::SigningKey,
    state::{
        Authority, Decree, Depth, Edict, Effect, NotOpened, Reach, Store, UnknownTask, Widened,
    },
    task::{Confidence, Task},
};
pub use access::{Access, Config, Group};
pub(crate) use socket::prepare_directory;
pub use socket::{NotBound, Socket};
use wire::{Bid, Fault, OpenTask, Refusal, Reply, Request, TaskView};

/// How long a request may take to arrive and its reply to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many bytes a request may have.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// How many connections are served at once; more of them wait.
const MOST_CONNECTIONS: usize = 16;

/// What configuration and data declare at this moment.
pub trait Declared: Send + Sync {
    /// The agent's ID.
    fn agent(&self) -> Arc<str>;
    /// What an intent declares, if there is such an intent.
    fn intent(&self, name: &str) -> Option<Reach>;
    /// Whether there is such a listener.
    fn listener(&self, name: &str) -> bool;
    /// Whether that is an issuer whose tokens count.
    fn issuer(&self, name: &str) -> bool;
    /// How many tasks may stand above one.
    fn depth(&self) -> Depth;
    /// Whether budgets would end with the process where they must not.
    fn forgets(&self) -> bool;
    /// Whether tasks are opened here at all, and not by other issuers alone.
    fn opens(&self) -> bool {
        true
    }
}

/// The keys that sign assertions.
pub trait Keys: Send + Sync {
    /// The name of the one that signs.
    fn kid(&self) -> String;
    /// Those by which assertions are verified, as a JWK Set.
    fn jwks(&self, now: Timestamp) -> String;
    /// The key that is to follow.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    fn next(&self) -> Result<SigningKey, String>;
    /// Lets that key sign from now on.
    fn replace(&self, key: SigningKey, now: Timestamp);
}

/// Whether tasks may be bound to a listener, for agents that can send no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CurrentTasks {
    /// They may.
    Permitted,
    /// They may not: whoever reaches the listener would have the task (production).
    Off,
}

/// Writes down what happens to authority.
pub trait Observer: Send + Sync {
    /// Notes that a task was opened, and to which listener it is to be bound.
    ///
    /// # Errors
    /// When it could not be written. Authority that cannot be noted is not given.
    fn opened(&self, task: &Task, listener: Option<&str>) -> io::Result<()>;

    /// Notes a decree, the task it speaks of where that is known, and what it changed.
    ///
    /// # Errors
    /// When it could not be written. Taking authority back holds all the same, and who asked is
    /// told.
    fn decreed(&self, decree: &Decree, task: Option<&Task>, effect: &Effect) -> io::Result<()>;

    /// Notes that one key is to follow another.
    ///
    /// # Errors
    /// When it could not be written. Then the key stays.
    fn rotated(&self, by: &str, old: &str, new: &str, why: Option<&str>) -> io::Result<()>;

    /// Notes that somebody tried to open a task that reaches further than its parent.
    fn widened(&self, by: &str, parent: &Task, widened: Widened);

    /// Notes that a user who may not use the socket tried to.
    fn turned_away(&self, uid: u32);
}

/// Serves the control socket.
pub struct Control {
    /// The tasks it opens and ends, and what it takes back.
    pub authority: Arc<Authority>,
    /// Where that is kept.
    pub store: Store,
    /// What may be named.
    pub declared: Box<dyn Declared>,
    /// What signs assertions.
    pub keys: Box<dyn Keys>,
    /// Who writes changes down.
    pub observer: Box<dyn Observer>,
    /// Whether tasks may be bound to listeners.
    pub current: CurrentTasks,
    /// Who is served.
    pub access: Access,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Whether authority changes here, or elsewhere in a moment.
    pub drain: Draining,
    /// Who is asked how the sidecar stands.
    pub doctor: Doctor,
    /// Where those go who want to take over.
    pub heirs: mpsc::UnboundedSender<Heir>,
}

/// A process that may take over.
#[derive(Debug)]
pub struct Heir {
    /// The connection to it.
    pub stream: UnixStream,
    /// Whose process it is.
    pub uid: u32,
    /// What it goes on with.
    pub bid: Bid,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Serves until `stop` resolves; requests then under way are answered.
    ///
    /// # Errors
    /// When the socket cannot be waited on.
    pub async fn serve(
        self: Arc<Self>,
        socket: Socket,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (listener, file) = socket.into_listener()?;
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            if connections.len() >= MOST_CONNECTIONS {
                connections.join_next().await;
            }
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(Arc::clone(&self).connection(stream));
                    while connections.try_join_next().is_some() {}
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket could not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if self.drain.is_departing() {
            file.leave();
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    async fn connection(self: Arc<Self>, stream: UnixStream) {
        match tokio::time::timeout(PATIENCE, self.exchange(stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a control connection broke"),
            Err(_) => tracing::debug!("a control connection took too long"),
        }
    }

    async fn exchange(&self, mut stream: UnixStream) -> io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        let admitted = self.access.admits(uid);
        if !admitted {
            self.observer.turned_away(uid);
        }
        let mut line = Vec::new();
        // Read before refusing: a socket closed over unread bytes loses the reply.
        let mut request = BufReader::new((&mut stream).take(LONGEST_REQUEST));
        request.read_until(b'\n', &mut line).await?;
        let request = if admitted {
            parse(&line)
        } else {
            let text = "this user may not use the control socket";
            Err(refused(Fault::NotAllowed, text))
        };
        let reply = match request {
            Ok(Request::TakeOver(bid)) if self.access.admits_sidecar(uid) => {
                // An edge that is gone drops it: the connection ends.
                self.heirs.send(Heir { stream, uid, bid }).ok();
                return Ok(());
            }
            request => self.answer(uid, request).await,
        };
        let mut reply = serde_json::to_vec(&reply)?;
        reply.push(b'\n');
        stream.write_all(&reply).await?;
        stream.shutdown().await
    }

    async fn answer(&self, uid: u32, request: Result<Request, Refusal>) -> Reply {
        let obeyed = match request {
            Ok(request) => self.obey(uid, request).await,
            Err(refusal) => Err(refusal),
        };
        obeyed.unwrap_or_else(Reply::Refused)
    }

    async fn obey(&self, uid: u32, request: Request) -> Result<Reply, Refusal> {
        let turn = self.drain.turn();
        if !turn.take() {
            let text = "another process is taking over: ask again";
            return Err(refused(Fault::Replaced, text));
        }
        let now = (self.clock)();
        let tasks = &self.authority.tasks;
        match request {
            Request::TaskOpen(open) => self.open(uid, open, now).await,
            Request::TaskShow(of) => {
                let task = tasks.get(&of.id, of.issuer.as_deref()).map_err(unknown)?;
                Ok(Reply::Task(TaskView::of(&task, now).into()))
            }
            Request::TaskList {} => {
                let tasks = tasks.list();
                Ok(Reply::Tasks(
                    tasks.iter().map(|task| TaskView::of(task, now)).collect(),
                ))
            }
            Request::TaskClose(of) => self.alter(uid, of, |task| Edict::Close { task }, now).await,
            Request::TaskSuspend(of) => {
                self.alter(uid, of, |task| Edict::Suspend { task }, now)
                    .await
            }
            Request::TaskResume(of) => {
                self.alter(uid, of, |task| Edict::Resume { task }, now)
                    .await
            }
            Request::TaskConfidence { task, confidence } => {
                let confidence = Confidence::try_from(confidence)
                    .map_err(|error| refused(Fault::Malformed, error.to_string()))?;
                let trust = |task| Edict::Trust { task, confidence };
                self.alter(uid, task, trust, now).await
            }
            Request::Revoke {
                target,
                issued_before,
                reason,
            } => self.revoke(uid, target, issued_before, reason, now).await,
            Request::Lift { target, reason } => self.lift(uid, target, reason, now).await,
            Request::Revocations {} => Ok(Reply::Revocations(self.authority.revocations().all())),
            Request::Keys {} => self.shown(now),
            Request::RotateKeys { reason } => self.rotate(uid, reason.as_deref(), now),
            Request::Doctor {} => Ok(Reply::Findings(self.doctor.examine(now))),
            Request::TakeOver(_) => Err(refused(
                Fault::NotAllowed,
                "only root and the sidecar's own user may take over",
            )),
        }
    }

    async fn open(&self, uid: u32, open: OpenTask, now: Timestamp) -> Result<Reply, Refusal> {
        let mut open = self.judge(uid, open, now)?;
        // Nobody has the token yet, and nothing is bound before it is noted.
        let listener = open.current.take();
        let opened = self.authority.open(open, now).map_err(not_opened)?;
        let kept = self.store.opened(&opened.task, &opened.token).await;
        let noted = kept.map_err(|error| error.to_string()).and_then(|()| {
            let noted = self.observer.opened(&opened.task, listener.as_deref());
            noted.map_err(|error| error.to_string())
        });
        if let Err(error) = noted {
            opened.task.revoke();
            tracing::error!(%error, "a task was not opened because that could not be kept");
            return Err(refused(
                Fault::Unrecorded,
                "the store or the security log cannot be written",
            ));
        }
        if let Some(listener) = listener {
            self.authority
                .tasks
                .bind(listener, Arc::clone(&opened.task));
        }
        Ok(Reply::Opened {
            id: opened.task.id.to_string(),
            token: opened.token.into(),
            expires: opened.task.expires.to_string(),
        })
    }
}

fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let line = line
        .strip_suffix(b"\n")
        .ok_or_else(|| refused(Fault::Malformed, "expected one line of at most 64 KiB"))?;
    serde_json::from_slice(line)
        .map_err(|_| refused(Fault::Malformed, "expected a request this version knows"))
}

fn refused(fault: Fault, message: impl Into<String>) -> Refusal {
    Refusal {
        fault,
        message: message.into(),
    }
}

fn unknown(error: UnknownTask) -> Refusal {
    let fault = match error {
        UnknownTask::NoSuch => Fault::UnknownTask,
        UnknownTask::Ambiguous => Fault::Malformed,
    };
    refused(fault, error.to_string())
}

fn not_opened(error: NotOpened) -> Refusal {
    let fault = match error {
        NotOpened::BadTtl | NotOpened::TooDeep(_) => Fault::Malformed,
        NotOpened::NoParent => Fault::UnknownTask,
        NotOpened::TooMany | NotOpened::Unsigned | NotOpened::TakenBack => Fault::Unavailable,
    };
    refused(fault, error.to_string())
}

#[cfg(test)]
mod tests;
