//! The byte stream of one agent, made unambiguous before the HTTP engine sees it.
//!
//! Bytes pass in place, one message at a time. A head that could be read in two ways gets a NUL
//! where the ambiguity is, so that the engine itself answers 400 and closes; a body that could,
//! ends in an error. Bytes of a next request wait here until the answer to the current one is
//! out: that bounds pipelining, and lets the engine notice at once that an agent has gone away.
//! A head that is not finished in time, an idle connection and an agent that does not read its
//! answer end here as well.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Connection, ConnectionFault,
    framing::{Framing, Phase, Scan},
};

/// Bytes of following requests that are read ahead while a call is under way.
const AHEAD_MAX: usize = 64 * 1024;
/// What HTTP/2 begins with, as far as no method does (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI";
/// What follows the NUL, so that the engine takes the head for complete and judges it.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// How long the rest of a refused request is read and thrown away, so that the answer arrives
/// before the connection is reset (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
/// The same while nothing comes.
const QUIET: Duration = Duration::from_millis(250);

/// How long an agent may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between two requests, and for an answer that is not read.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            idle: Duration::from_mins(1),
        }
    }
}

/// How an agent keeps us waiting; seen from outside its connection, too.
#[derive(Debug)]
pub(crate) struct Waits {
    heads: Cell<u64>,
    answered: Cell<u64>,
    called: Cell<bool>,
    /// Since when the agent owes us a request or the rest of one.
    owed_since: Cell<Option<Instant>>,
    /// Since when it does not read its answer.
    stalled_since: Cell<Option<Instant>>,
}

impl Default for Waits {
    /// Of an agent that has just connected: it is its turn.
    fn default() -> Self {
        Self {
            heads: Cell::default(),
            answered: Cell::default(),
            called: Cell::default(),
            owed_since: Cell::new(Some(Instant::now())),
            stalled_since: Cell::default(),
        }
    }
}

impl Waits {
    /// Since when the agent keeps us waiting; none while it waits for us.
    pub(super) fn keeps_waiting(&self) -> Option<Instant> {
        self.owed_since.get().or(self.stalled_since.get())
    }

    /// Whether a call has begun and its answer is not out.
    pub(super) fn is_in_a_call(&self) -> bool {
        self.heads.get() > self.answered.get()
    }

    /// Whether no call was ever made.
    pub(super) fn never_called(&self) -> bool {
        !self.called.get()
    }

    /// A request of one stream among others began.
    pub(super) fn enter(&self) {
        self.heads(self.heads.get() + 1);
        self.owed_since.set(None);
    }

    /// Such a request is over; after the last it is the agent's turn.
    pub(super) fn leave(&self) {
        self.answered.set(self.answered.get() + 1);
        if !self.is_in_a_call() {
            self.owed_since.set(Some(Instant::now()));
        }
    }

    /// Notes how many heads came through this stream.
    fn heads(&self, heads: u64) {
        self.heads.set(heads);
        self.called.set(self.called.get() || heads > 0);
    }

    /// Counts anew: the connection goes on in another stream, between two calls.
    pub(super) fn begin(&self) {
        self.heads.set(0);
        self.answered.set(0);
    }
}

/// What the stream and the service of one connection tell each other.
#[derive(Debug)]
pub(super) struct Gate {
    connection: Rc<Connection>,
    waiting: RefCell<Option<Waker>>,
    fault: Cell<Option<ConnectionFault>>,
    parked: Cell<bool>,
    preface: Cell<bool>,
}

impl Gate {
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        connection.waits.begin();
        Self {
            connection,
            waiting: RefCell::default(),
            fault: Cell::default(),
            parked: Cell::default(),
            preface: Cell::default(),
        }
    }

    fn waits(&self) -> &Waits {
        &self.connection.waits
    }

    /// Notes that an answer is out or will never be: from now on it is the agent's turn.
    pub(super) fn answered(&self) {
        self.connection.decided();
        let waits = self.waits();
        waits.answered.set(waits.answered.get() + 1);
        waits.owed_since.set(Some(Instant::now()));
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Why the stream ended the connection, if it did.
    pub(super) fn fault(&self) -> Option<ConnectionFault> {
        self.fault.get()
    }

    /// Whether the stream ended here alone, between two requests: its socket goes on elsewhere.
    pub(super) fn parked(&self) -> bool {
        self.parked.get()
    }

    /// Whether the stream ended here because what begins is HTTP/2.
    pub(super) fn preface(&self) -> bool {
        self.preface.get()
    }

    /// Whether the stream ends for the engine because no request may begin. That of TLS waits for
    /// the end of the hold, and ends with it if a successor goes on: its session cannot go over.
    fn ends(&self) -> bool {
        let turn = &self.connection.turn;
        if self.connection.stays() {
            return turn.is_departing();
        }
        self.parked.set(turn.is_held());
        self.parked.get()
    }
}

/// What becomes of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sound,
    /// The NUL is delivered; the end of the head is to follow.
    Refused,
    /// No byte more.
    Dead,
}

/// One agent's stream of requests.
#[derive(Debug)]
pub(super) struct StrictHead<S> {
    stream: S,
    gate: Rc<Gate>,
    patience: Patience,
    framing: Framing,
    fate: Fate,
    ahead: Vec<u8>,
    clock: Option<Pin<Box<Sleep>>>,
    lingering: Option<Instant>,
    /// Which version of HTTP it is has not been seen yet.
    fresh: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> StrictHead<S> {
    /// `ahead` was read from the stream before.
    pub(super) fn new(stream: S, ahead: Vec<u8>, gate: Rc<Gate>, patience: Patience) -> Self {
        Self {
            stream,
            gate,
            patience,
            framing: Framing::new(),
            fate: Fate::Sound,
            ahead,
            clock: None,
            lingering: None,
            fresh: true,
        }
    }

    /// Reads what a connection begins with until it tells HTTP/2 from its predecessors; whether it
    /// is HTTP/2. The end of the stream tells, too.
    fn is_preface(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let begins = self.ahead.starts_with(PREFACE);
            if begins || !PREFACE.starts_with(&self.ahead) {
                self.fresh = false;
                return Poll::Ready(Ok(begins));
            }
            let mut space = [MaybeUninit::uninit(); 8 * 1024];
            let mut buf = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                self.fresh = false;
                return Poll::Ready(Ok(false));
            }
            self.ahead.extend_from_slice(buf.filled());
        }
    }

    /// The stream itself, and what was read from it and is not a request yet.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// Delivers what follows a refused byte: the end of the head, then nothing.
    fn refuse(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        if self.fate == Fate::Refused && buf.remaining() >= HEAD_END.len() {
            self.fate = Fate::Dead;
            buf.put_slice(HEAD_END);
            return Ok(());
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Reads ahead while a call is under way, to see the agent's end; hands nothing out.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gate.waits().owed_since.set(None);
        while self.ahead.len() < AHEAD_MAX {
            let mut space = [MaybeUninit::uninit(); 2048];
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buf.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.ahead.len() >= AHEAD_MAX {
            // Behind so much that was sent ahead, the agent's end could not be seen any more.
            self.gate.fault.set(Some(ConnectionFault::Peer));
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        // What is there to do once the answer is out, else a byte of the agent tells.
        if !self.ahead.is_empty() || self.gate.connection.turn.is_held() {
            *self.gate.waiting.borrow_mut() = Some(cx.waker().clone());
        }
        self.keep_awake(cx);
        Poll::Pending
    }

    /// Sees to it that the clock runs: the engine does not ask again after an answer, and an agent
    /// that sends nothing more would wake nobody.
    fn keep_awake(&mut self, cx: &mut Context<'_>) {
        if self.clock.as_ref().is_none_or(|clock| clock.is_elapsed()) {
            self.clock = None;
            self.is_past(cx, Instant::now() + self.patience.idle);
        }
    }

    /// Takes bytes that were read ahead, else reads.
    fn fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let taken = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..taken).unwrap_or_default());
        self.ahead.drain(..taken);
        Poll::Ready(Ok(()))
    }

    /// Whether what was just read after `before` may begin a request; else it waits for whoever
    /// goes on with the socket. The agent's end is nobody's request.
    fn begins(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() || self.gate.connection.turn.take() {
            return true;
        }
        self.ahead.splice(..0, fresh.iter().copied());
        buf.set_filled(before);
        false
    }

    /// Cuts what was just read after `before` to what belongs to the current message.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let Some(fresh) = buf.filled_mut().get_mut(before..) else {
            return Ok(());
        };
        let verdict = self.framing.scan(fresh);
        self.gate.waits().heads(self.framing.heads());
        match verdict {
            Scan::More => {}
            Scan::End(length) => {
                self.gate.waits().owed_since.set(None);
                // What was read ahead earlier comes after what is left over now.
                let rest = fresh.get(length..).unwrap_or_default();
                self.ahead.splice(..0, rest.iter().copied());
                buf.set_filled(before + length);
            }
            Scan::BadHead(at) => {
                if let Some(byte) = fresh.get_mut(at) {
                    *byte = 0;
                }
                self.fate = Fate::Refused;
                self.gate.fault.set(Some(ConnectionFault::Parse));
                buf.set_filled(before + at + 1);
            }
            Scan::BadBody(at) => {
                self.fate = Fate::Dead;
                self.gate.fault.set(Some(ConnectionFault::Framing));
                buf.set_filled(before + at);
                if at == 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    }

    /// Ends the wait for a head that took too long: an idle connection as if the agent had
    /// closed it, a started head as an error.
    fn lose_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (limit, end) = match self.framing.phase() {
            Phase::Body => {
                // The service bounds that.
                since(&self.gate.waits().owed_since);
                return Poll::Pending;
            }
            // The answer is still on its way out; that has a bound of its own.
            Phase::Idle if self.gate.waits().stalled_since.get().is_some() => return Poll::Pending,
            Phase::Idle => (self.patience.idle, Ok(())),
            Phase::Head => (self.patience.head, Err(io::ErrorKind::TimedOut.into())),
        };
        let since = since(&self.gate.waits().owed_since);
        if !self.is_past(cx, since + limit) {
            return Poll::Pending;
        }
        if end.is_err() {
            self.gate.fault.set(Some(ConnectionFault::HeaderTimeout));
        }
        Poll::Ready(end)
    }

    /// Whether `deadline` is past; else this task wakes then, or earlier for nothing.
    fn is_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if clock.deadline() > deadline {
            clock.as_mut().reset(deadline);
        }
        while clock.as_mut().poll(cx).is_ready() {
            if clock.deadline() >= deadline {
                return true;
            }
            clock.as_mut().reset(deadline);
        }
        false
    }

    /// Passes on the outcome of a write, unless the agent has not been reading for too long.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.gate.waits().stalled_since.set(None);
            return outcome;
        }
        let since = since(&self.gate.waits().stalled_since);
        self.gate.waits().owed_since.set(None);
        if self.is_past(cx, since + self.patience.idle) {
            self.gate.fault.set(Some(ConnectionFault::AnswerUnread));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Throws away what the agent still sends, until it ends or the time is over.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = *self
            .lingering
            .get_or_insert_with(|| Instant::now() + LINGER);
        let mut space = [MaybeUninit::uninit(); 16 * 1024];
        for _ in 0..64 {
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.gate.waits().owed_since.set(None);
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let quiet = since(&self.gate.waits().owed_since) + QUIET;
                    if self.is_past(cx, end.min(quiet)) {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            }
        }
        if Instant::now() >= end {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the agent may still be sending what nobody will read.
    fn leaves_bytes(&self) -> bool {
        self.fate != Fate::Sound || self.framing.phase() != Phase::Idle || !self.ahead.is_empty()
    }
}

/// When it began, which is now if it has not.
fn since(begin: &Cell<Option<Instant>>) -> Instant {
    let since = begin.get().unwrap_or_else(Instant::now);
    begin.set(Some(since));
    since
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for StrictHead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.fate != Fate::Sound {
            return Poll::Ready(this.refuse(buf));
        }
        if this.framing.phase() == Phase::Idle && this.gate.waits().is_in_a_call() {
            return this.watch(cx);
        }
        let idle = this.framing.phase() == Phase::Idle;
        if idle && this.gate.waits().stalled_since.get().is_none() && this.gate.ends() {
            return Poll::Ready(Ok(()));
        }
        if this.fresh {
            match this.is_preface(cx) {
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Ok(true)) => {
                    this.gate.preface.set(true);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return this.lose_patience(cx),
            }
        }
        let before = buf.filled().len();
        match this.fill(cx, buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return this.lose_patience(cx),
        }
        if idle {
            this.gate.waits().owed_since.set(None);
            if !this.begins(buf, before) {
                return if this.gate.ends() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
        }
        Poll::Ready(this.judge(buf, before))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictHead<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.bounded(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.bounded(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.bounded(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.gate.parked() || this.gate.preface() {
            return Poll::Ready(Ok(()));
        }
        if this.lingering.is_none() {
            this.gate.waits().owed_since.set(None);
            match Pin::new(&mut this.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {}
                outcome => return outcome,
            }
        }
        if this.leaves_bytes() {
            this.linger(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        task::{LocalSet, spawn_local, yield_now},
    };

    use super::*;
    use crate::{
        drain::Drain,
        listen::{
            Crowd, Inside, ListenAddress, ListenerFacts, Member, Mode, Observer, PeerAddr,
            reverse::Hosts,
        },
    };

    const CALL: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

    fn connection() -> Connection {
        let address: ListenAddress = "127.0.0.1:1".parse().unwrap();
        let facts = ListenerFacts {
            name: "reverse".into(),
            mode: Mode::Reverse,
            hosts: Hosts::new(&[], &address).unwrap(),
            address,
            origins: Vec::new(),
            patience: Patience::default(),
            max_connections: 1,
            tls: None,
            inside: Inside::Refuse,
        };
        let peer = PeerAddr::Unix { uid: 1, pid: None };
        let turn = Drain::new().1.turn();
        Connection::new(Arc::new(facts), peer, turn, Rc::default())
    }

    /// A connection of which that was read and, if it is a call, answered; it waits since then.
    async fn after(bytes: &[u8], waited: Duration) -> Rc<Waits> {
        let connection = Rc::new(connection());
        let gate = Rc::new(Gate::new(Rc::clone(&connection)));
        let (mut agent, stream) = duplex(1024);
        agent.write_all(bytes).await.unwrap();
        let patience = Patience::default();
        let mut stream = StrictHead::new(stream, Vec::new(), Rc::clone(&gate), patience);
        let read = stream.read(&mut [0; 1024]).await;
        assert_eq!(read.unwrap(), bytes.len());
        if gate.waits().is_in_a_call() {
            gate.answered();
        }
        let since = Instant::now().checked_sub(waited);
        gate.waits().owed_since.set(since);
        Rc::clone(&connection.waits)
    }

    #[tokio::test]
    async fn one_that_sent_a_byte_makes_room_before_one_that_called_and_is_idle() {
        let (crowd, listener) = (Crowd::default(), Arc::clone(&connection().listener));
        let join = |waits| {
            let task = tokio::spawn(std::future::pending::<()>());
            crowd.join(Member {
                listener: Arc::clone(&listener),
                peer: PeerAddr::Unix { uid: 1, pid: None },
                waits,
                task: task.abort_handle(),
            });
            task
        };
        let idle = join(after(CALL, Duration::from_secs(3)).await);
        let dribbler = join(after(b"G", Duration::from_secs(1)).await);
        let observer: Observer = Arc::new(|_, _, _| {});
        assert!(crowd.make_room(&listener, &observer));
        tokio::select! {
            _ = idle => panic!("who called had to go"),
            ended = dribbler => assert!(ended.unwrap_err().is_cancelled()),
        }
    }

    /// The engine does not read again after an answer; no wait before the call left a clock either.
    #[tokio::test]
    async fn a_connection_that_called_at_once_is_ended_when_it_is_idle() {
        let gate = Rc::new(Gate::new(Rc::new(connection())));
        let patience = Patience {
            idle: Duration::from_millis(20),
            ..Patience::default()
        };
        let (mut agent, stream) = duplex(1024);
        agent.write_all(CALL).await.unwrap();
        let mut stream = StrictHead::new(stream, Vec::new(), Rc::clone(&gate), patience);
        let mut space = [0; 1024];
        assert_eq!(stream.read(&mut space).await.unwrap(), CALL.len());
        let idle = async {
            let next = spawn_local(async move { stream.read(&mut space).await.unwrap() });
            yield_now().await;
            gate.answered();
            next.await.unwrap()
        };
        let local = LocalSet::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), local.run_until(idle)).await;
        assert_eq!(ended.unwrap(), 0);
    }
}
