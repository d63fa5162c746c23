//! The control socket: where people and their tools open tasks and take authority back.
//!
//! One connection carries one request, a line of JSON, and one reply. Who asks is what the
//! kernel says; the agent's users are never served. A reply comes after the change it tells of
//! is visible to the next call.

mod access;
pub mod client;
mod judge;
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
    drain::Draining,
    state::{NotOpened, Tasks, UnknownTask},
    task::Task,
};
pub use access::{Access, Config, Group};
use judge::plain;
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
    /// Whether there is such an intent.
    fn intent(&self, name: &str) -> bool;
    /// Whether there is such a listener.
    fn listener(&self, name: &str) -> bool;
}

/// Whether tasks may be bound to a listener, for agents that can send no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CurrentTasks {
    /// They may.
    Permitted,
    /// They may not: whoever reaches the listener would have the task (production).
    Off,
}

/// What was done to an authority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// A task was opened.
    TaskOpened,
    /// A task was said to be done.
    TaskClosed,
    /// A task's authority was taken back.
    TaskRevoked,
}

impl Act {
    /// The word for the security log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskOpened => "task_opened",
            Self::TaskClosed => "task_closed",
            Self::TaskRevoked => "task_revoked",
        }
    }
}

/// A change of authority: who, what, why.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What was done.
    pub act: Act,
    /// The user who did it.
    pub by: u32,
    /// To which task.
    pub task: &'a Task,
    /// To which listener it is bound.
    pub listener: Option<&'a str>,
    /// The reason that was given.
    pub reason: Option<&'a str>,
}

/// Writes down what happens to authority.
pub trait Observer: Send + Sync {
    /// Notes a change.
    ///
    /// # Errors
    /// When it could not be written. Authority that cannot be noted is not given; taking it
    /// back holds all the same, and who asked is told.
    fn changed(&self, change: &Change<'_>) -> io::Result<()>;

    /// Notes that a user who may not use the socket tried to.
    fn turned_away(&self, uid: u32);
}

/// Serves the control socket.
pub struct Control {
    /// The tasks it opens and ends.
    pub tasks: Arc<Tasks>,
    /// What may be named.
    pub declared: Box<dyn Declared>,
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
            request => self.answer(uid, request),
        };
        let mut reply = serde_json::to_vec(&reply)?;
        reply.push(b'\n');
        stream.write_all(&reply).await?;
        stream.shutdown().await
    }

    fn answer(&self, uid: u32, request: Result<Request, Refusal>) -> Reply {
        request
            .and_then(|request| self.obey(uid, request))
            .unwrap_or_else(Reply::Refused)
    }

    fn obey(&self, uid: u32, request: Request) -> Result<Reply, Refusal> {
        let turn = self.drain.turn();
        if !turn.take() {
            let text = "another process is taking over: ask again";
            return Err(refused(Fault::Replaced, text));
        }
        let now = (self.clock)();
        match request {
            Request::TaskOpen(open) => self.open(uid, open, now),
            Request::TaskShow { id } => {
                let task = self.tasks.get(&id).map_err(unknown)?;
                Ok(Reply::Task(TaskView::of(&task, now)))
            }
            Request::TaskList {} => {
                let tasks = self.tasks.list();
                Ok(Reply::Tasks(
                    tasks.iter().map(|task| TaskView::of(task, now)).collect(),
                ))
            }
            Request::TaskClose { id } => {
                let task = self.tasks.close(&id).map_err(unknown)?;
                self.ended(Act::TaskClosed, uid, &task, None)?;
                Ok(Reply::Task(TaskView::of(&task, now)))
            }
            Request::RevokeTask { id, reason } => {
                let reason = reason.as_deref();
                reason.map_or(Ok(()), |reason| plain("reason", reason))?;
                let task = self.tasks.revoke(&id).map_err(unknown)?;
                self.ended(Act::TaskRevoked, uid, &task, reason)?;
                Ok(Reply::Task(TaskView::of(&task, now)))
            }
            Request::TakeOver(_) => Err(refused(
                Fault::NotAllowed,
                "only root and the sidecar's own user may take over",
            )),
        }
    }

    fn open(&self, uid: u32, open: OpenTask, now: Timestamp) -> Result<Reply, Refusal> {
        let mut open = self.judge(uid, open)?;
        // Nobody has the token yet, and nothing is bound before it is noted.
        let listener = open.current.take();
        let opened = self.tasks.open(open, now).map_err(not_opened)?;
        let change = Change {
            act: Act::TaskOpened,
            by: uid,
            task: &opened.task,
            listener: listener.as_deref(),
            reason: None,
        };
        if let Err(error) = self.observer.changed(&change) {
            opened.task.revoke();
            tracing::error!(%error, "a task was not opened because that could not be logged");
            return Err(refused(
                Fault::Unrecorded,
                "the security log cannot be written",
            ));
        }
        if let Some(listener) = listener {
            self.tasks
                .bind(listener, &opened.task.id)
                .map_err(unknown)?;
        }
        Ok(Reply::Opened {
            id: opened.task.id.to_string(),
            token: opened.token.into(),
            expires: opened.task.expires.to_string(),
        })
    }

    /// Notes an end. The end itself stands whether or not it could be noted.
    fn ended(&self, act: Act, by: u32, task: &Task, reason: Option<&str>) -> Result<(), Refusal> {
        let change = Change {
            act,
            by,
            task,
            listener: None,
            reason,
        };
        self.observer.changed(&change).map_err(|error| {
            tracing::error!(%error, act = act.as_str(), "a change of authority could not be logged");
            let text = "the task has ended, but that is not noted: the security log cannot be written";
            refused(Fault::Unrecorded, text)
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

fn unknown(_: UnknownTask) -> Refusal {
    refused(
        Fault::UnknownTask,
        "there is no such task: see `outrider task list`",
    )
}

fn not_opened(error: NotOpened) -> Refusal {
    let fault = match error {
        NotOpened::BadTtl => Fault::Malformed,
        NotOpened::TooMany | NotOpened::Unsigned => Fault::Unavailable,
    };
    refused(fault, error.to_string())
}

#[cfg(test)]
mod tests;
