//! Bytes between an agent and a service, unread, in both directions and counted.
//!
//! A relay ends when both sides have said all, when one breaks off, when nothing moves for too
//! long, or with its task; whatever ends it is what the outcome line says.

use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::sleep,
};

use crate::{
    listen::Io,
    record::{Ended, Entry},
    rejection::{Code, Rejection},
    respond,
    state::Tether,
};

/// Bytes that are read at a time, in each direction.
const PIECE: usize = 16 * 1024;
/// Between two looks at whether something moves.
const LOOK: Duration = Duration::from_secs(1);

/// The call that a relay is, until it is over; cut with its connection if that ends first.
#[derive(Debug)]
pub(super) struct Relayed {
    entry: Box<Entry>,
    tether: Tether,
    /// How long nothing may move.
    idle: Duration,
}

/// Why a relay is over.
enum Over {
    /// Both sides said all.
    Whole,
    /// The agent broke off.
    Gone,
    /// The service broke off.
    Failed,
    /// It may not go on.
    Refused(Rejection),
}

/// What moved so far.
#[derive(Debug)]
struct Moved {
    sent: Cell<u64>,
    answered: Cell<u64>,
    last: Cell<Instant>,
}

/// Which side broke off.
enum Broken {
    Agent,
    Service,
}

impl Relayed {
    pub(super) fn new(entry: Box<Entry>, tether: Tether, idle: Duration) -> Self {
        Self {
            entry,
            tether,
            idle,
        }
    }

    /// Relays until it is over.
    pub(super) async fn run(mut self, agent: impl Io, service: impl Io) {
        let moved = Moved {
            sent: Cell::default(),
            answered: Cell::default(),
            last: Cell::new(Instant::now()),
        };
        let tether = self.tether.clone();
        let over = tokio::select! {
            biased;
            why = tether.severed() => Over::Refused(respond::over(why)),
            () = stuck(&moved, self.idle) => Over::Refused(Rejection::UpstreamTimeout),
            over = both(agent, service, &moved) => over,
        };
        self.entry.answered.bytes = moved.answered.get();
        self.entry.answered.sent = Some(moved.sent.get());
        self.close(&over);
    }

    /// Ends it before anything was relayed.
    pub(super) fn refuse(mut self, rejection: Rejection) {
        self.close(&Over::Refused(rejection));
    }

    fn close(&mut self, over: &Over) {
        let (ended, code) = match over {
            Over::Whole => (Ended::Completed, Code::Ok),
            Over::Gone => (Ended::AgentGone, Code::Ok),
            Over::Failed => (Ended::UpstreamFailed, Code::UpstreamUnreachable),
            Over::Refused(rejection) => (respond::ended(rejection), rejection.code()),
        };
        self.entry.close(ended, code);
    }
}

impl Drop for Relayed {
    /// Only a drain that is over drops a relay that is not.
    fn drop(&mut self) {
        self.entry.close(Ended::Cut, Code::Ok);
    }
}

async fn both(agent: impl Io, service: impl Io, moved: &Moved) -> Over {
    let (mut from_agent, mut to_agent) = split(agent);
    let (mut from_service, mut to_service) = split(service);
    let sends = pump(&mut from_agent, &mut to_service, |bytes| {
        moved.sent.set(moved.sent.get() + bytes);
        moved.last.set(Instant::now());
    });
    let answers = pump(&mut from_service, &mut to_agent, |bytes| {
        moved.answered.set(moved.answered.get() + bytes);
        moved.last.set(Instant::now());
    });
    let sends = async {
        sends
            .await
            .map_err(|end| end.or(Broken::Agent, Broken::Service))
    };
    let answers = async {
        answers
            .await
            .map_err(|end| end.or(Broken::Service, Broken::Agent))
    };
    match tokio::try_join!(sends, answers) {
        Ok(((), ())) => Over::Whole,
        Err(Broken::Agent) => Over::Gone,
        Err(Broken::Service) => Over::Failed,
    }
}

/// At which end one direction broke.
enum End {
    Source,
    Sink,
}

impl End {
    fn or(self, source: Broken, sink: Broken) -> Broken {
        match self {
            Self::Source => source,
            Self::Sink => sink,
        }
    }
}

/// Moves all bytes of one direction, and its end.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(u64),
) -> Result<(), End> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await.map_err(|_| End::Source)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| End::Sink);
        }
        let bytes = piece.get(..read).unwrap_or_default();
        sent(to, bytes).await.map_err(|_| End::Sink)?;
        moved(read as u64);
    }
}

async fn sent(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Waits until nothing has moved for so long.
async fn stuck(moved: &Moved, idle: Duration) {
    while moved.last.get().elapsed() < idle {
        sleep(LOOK).await;
    }
}
