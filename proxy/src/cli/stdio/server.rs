//! The server's side: what the sidecar lets pass goes to its standard input, and what it says on
//! its standard output to the request that it belongs to.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, ChildStdout},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    lines::{self, Lines},
    message::{Id, Kind, Message, cancelled},
    process::Pipes,
};

/// Messages that wait for whoever is to take them.
const QUEUE: usize = 16;
/// Messages, and bytes of them, that wait for the session's stream to be opened.
const HELD: usize = 64;
const HELD_BYTES: usize = 4 << 20;
/// Bytes that the server said and nobody has taken: a line that is larger waits until all are taken.
const UNTAKEN: usize = 64 << 20;
/// The method whose stream tells of changes.
const LISTEN: &str = "subscriptions/listen";

/// A server, as the sidecar's requests see it.
#[derive(Debug)]
pub(super) struct Server {
    /// To its standard input; gone when that is closed.
    input: RefCell<Option<mpsc::Sender<Bytes>>>,
    asked: RefCell<HashMap<Id, Waiting>>,
    feed: RefCell<Option<mpsc::Sender<Said>>>,
    held: RefCell<VecDeque<Line>>,
    /// For what was said and not taken, byte by byte.
    room: Arc<Semaphore>,
    /// Counts requests.
    turn: Cell<u64>,
    /// The session that it opened, as older revisions have it.
    session: RefCell<Option<String>>,
}

/// A request that the server has not answered.
#[derive(Debug)]
struct Waiting {
    to: mpsc::Sender<Said>,
    progress: Option<Id>,
    listens: bool,
    turn: u64,
}

/// What the server says to a request.
#[derive(Debug)]
pub(super) enum Said {
    /// Before its answer.
    Meanwhile(Line),
    /// The answer.
    Last(Line),
}

/// A line of the server, in its place until it is taken.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Line {
    /// The line, which makes room for another.
    pub(super) fn take(self) -> Bytes {
        self.bytes
    }
}

/// A request under way; dropped before its answer, it is cancelled.
#[derive(Debug)]
pub(super) struct Asked {
    server: Rc<Server>,
    id: Id,
    /// What the server says to it.
    said: mpsc::Receiver<Said>,
    opening: bool,
}

/// A message that the server cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// A request with that ID is under way.
    Twice,
    /// The server hears nothing more.
    Gone,
}

impl Server {
    /// Begins to hear and to say.
    pub(super) fn begin(pipes: Pipes) -> Rc<Self> {
        let (input, lines) = mpsc::channel(QUEUE);
        let server = Rc::new(Self {
            input: RefCell::new(Some(input)),
            asked: RefCell::default(),
            feed: RefCell::default(),
            held: RefCell::default(),
            room: Arc::new(Semaphore::new(UNTAKEN)),
            turn: Cell::default(),
            session: RefCell::default(),
        });
        tokio::task::spawn_local(write(pipes.stdin, lines));
        tokio::task::spawn_local(Rc::clone(&server).hear(pipes.stdout));
        server
    }

    /// Says nothing more to it: its standard input is over once all is written.
    pub(super) fn close(&self) {
        self.input.take();
    }

    /// The session that it has, if it was opened as older revisions do.
    pub(super) fn session(&self) -> Option<String> {
        self.session.borrow().clone()
    }

    /// Asks it something.
    pub(super) async fn ask(
        self: &Rc<Self>,
        id: Id,
        message: Message,
        line: Bytes,
    ) -> Result<Asked, Undelivered> {
        let (to, said) = mpsc::channel(QUEUE);
        let turn = self.turn.replace(self.turn.get() + 1);
        let opening = message.is("initialize");
        let waiting = Waiting {
            to,
            listens: message.is(LISTEN),
            progress: message.progress,
            turn,
        };
        {
            let mut asked = self.asked.borrow_mut();
            if asked.contains_key(&id) {
                return Err(Undelivered::Twice);
            }
            asked.insert(id.clone(), waiting);
        }
        let asked = Asked {
            server: Rc::clone(self),
            id,
            said,
            opening,
        };
        if opening {
            let session = uuid::Uuid::new_v4().simple().to_string();
            self.session.replace(Some(session));
        }
        self.tell(line).await.map(|()| asked)
    }

    /// Tells it something that has no answer.
    pub(super) async fn tell(&self, line: Bytes) -> Result<(), Undelivered> {
        let input = self.input.borrow().clone();
        let input = input.ok_or(Undelivered::Gone)?;
        input.send(line).await.map_err(|_| Undelivered::Gone)
    }

    /// What it says of itself, from now on; to one at a time.
    pub(super) fn feed(&self) -> mpsc::Receiver<Said> {
        let (to, said) = mpsc::channel(QUEUE + HELD);
        for line in self.held.take() {
            // There is room for all.
            to.try_send(Said::Meanwhile(line)).ok();
        }
        self.feed.replace(Some(to));
        said
    }

    async fn hear(self: Rc<Self>, stdout: ChildStdout) {
        let mut lines = Lines::of(stdout);
        loop {
            match lines.next().await {
                lines::Line::Whole(line) if line.is_empty() => {}
                lines::Line::Whole(line) => self.bring(line).await,
                lines::Line::TooLong => {
                    eprintln!(
                        "outrider: the server said a line of over 64 MiB: what it answers is lost"
                    );
                    self.asked.take();
                }
                lines::Line::End => break,
            }
        }
        // Whoever waits is told by that.
        self.input.take();
        self.asked.take();
        self.feed.take();
    }

    /// Brings what the server says to where it belongs.
    async fn bring(&self, line: Bytes) {
        let Some(message) = Message::read(&line) else {
            let text = String::from_utf8_lossy(line.get(..line.len().min(200)).unwrap_or_default());
            eprintln!("outrider: the server said what is no message: {text}");
            return;
        };
        let places = u32::try_from(line.len().min(UNTAKEN)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(places).await else {
            return;
        };
        let line = Line {
            bytes: line,
            _room: room,
        };
        if message.kind() == Kind::Answer {
            let waiting = message
                .id
                .and_then(|id| self.asked.borrow_mut().remove(&id));
            if let Some(waiting) = waiting {
                // Whoever does not wait any more needs no answer.
                waiting.to.send(Said::Last(line)).await.ok();
            }
            return;
        }
        match self.place(&message) {
            Some(to) => drop(to.send(Said::Meanwhile(line)).await),
            None if self.session.borrow().is_some() && self.may_hold(&line) => {
                self.held.borrow_mut().push_back(line);
            }
            None => {
                let method = message.method.unwrap_or_default();
                eprintln!("outrider: nobody listens to what the server says: {method}");
            }
        }
    }

    /// Whether that may wait for the session's stream.
    fn may_hold(&self, line: &Line) -> bool {
        let held = self.held.borrow();
        let bytes: usize = held.iter().map(|line| line.bytes.len()).sum();
        held.len() < HELD && bytes + line.bytes.len() <= HELD_BYTES
    }

    /// Who is to hear what the server says by itself.
    fn place(&self, message: &Message) -> Option<mpsc::Sender<Said>> {
        let asked = self.asked.borrow();
        let tied = message.subscription.as_ref().and_then(|id| asked.get(id));
        let tied = tied.or_else(|| {
            let progress = message.progress.as_ref()?;
            let mut of = asked.values();
            of.find(|waiting| waiting.progress.as_ref() == Some(progress))
        });
        if let Some(waiting) = tied {
            return Some(waiting.to.clone());
        }
        if self.session.borrow().is_some() {
            return self.feed.borrow().clone().filter(|to| !to.is_closed());
        }
        // Without a session it belongs to a request, and tells not which: to the last.
        let calls = asked.values().filter(|waiting| !waiting.listens);
        calls
            .max_by_key(|waiting| waiting.turn)
            .map(|waiting| waiting.to.clone())
    }
}

impl Asked {
    /// What the server says next; none when it is gone.
    pub(super) async fn said(&mut self) -> Option<Said> {
        self.said.recv().await
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Said>> {
        self.said.poll_recv(cx)
    }

    /// Whether it opens the session.
    pub(super) fn opens(&self) -> bool {
        self.opening
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let unanswered = self.server.asked.borrow_mut().remove(&self.id).is_some();
        // An opening cannot be cancelled.
        if unanswered && !self.opening {
            let input = self.server.input.borrow();
            if let Some(input) = &*input {
                // A server that does not read is not told.
                input.try_send(cancelled(&self.id)).ok();
            }
        }
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Bytes>) {
    while let Some(line) = lines.recv().await {
        let written = async {
            stdin.write_all(&line).await?;
            stdin.write_all(b"\n").await?;
            stdin.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
}
