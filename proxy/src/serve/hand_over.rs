//! The predecessor's side of a take-over: everything goes to a successor, or stays as it was.
//!
//! 1. No request begins, and those that have begun are decided: for a moment nothing changes.
//! 2. The successor gets sockets, logs, tasks. Nothing is given up yet: what fails up to here, or
//!    takes too long, ends with everything going on here.
//! 3. The successor says that it can go on, and is told to. From then on it decides and writes the
//!    decision log; its first line follows our last one.
//! 4. Calls under way end here. A connection without a call goes over, unread bytes and all; the
//!    lines that say how calls ended are the successor's to write; a task that ends there is cut
//!    here.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::absolute,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::bequest::{Bequest, CaKey, Claim, Estate, Place};
use crate::{
    control::{Heir, wire::Bid},
    drain::Drain,
    link::Link,
    listen::{Parked, Socket, ca::Authority as CaAuthority},
    outrider::Outrider,
    record::security::SecurityKind,
    state::{Authority, Store},
};

/// How long requests that have begun may take to be decided. A body that is still on its way then
/// is refused: nothing is decided here any more.
const DECIDED: Duration = Duration::from_secs(1);
/// How long the successor may take to say that it can go on; nothing is decided meanwhile.
const ABLE: Duration = Duration::from_secs(5);
/// How long the last outcome of calls may wait to go over.
const OUTCOMES: Duration = Duration::from_millis(5);

const UNWRITABLE: &str = "the decision log cannot be written";

/// Who goes on after us, and who went before.
pub(super) struct Succession {
    pub(super) heirs: mpsc::UnboundedReceiver<Heir>,
    pub(super) heritage: Heritage,
    pub(super) drain: Drain,
    /// The predecessor, while its calls still run.
    pub(super) leaving: JoinSet<()>,
}

impl Succession {
    /// Waits for a process that takes over. One that comes while our own predecessor still has
    /// calls waits: their ends are to come to us.
    pub(super) async fn heir(&mut self) -> Heir {
        while self.leaving.join_next().await.is_some() {}
        match self.heirs.recv().await {
            Some(heir) => heir,
            None => std::future::pending().await,
        }
    }

    /// Hands everything over, or goes on.
    pub(super) async fn hand_over(&self, heir: Heir, outrider: &Outrider) -> Option<Successor> {
        let who = format!("uid:{}", heir.uid);
        let outcome = self.heritage.hand_over(heir, outrider, &self.drain).await;
        match outcome {
            Ok(successor) => {
                let (kind, what) = (SecurityKind::TakenOver, [("who", who.as_str())]);
                outrider.recorder.event(kind, None, &what);
                Some(successor)
            }
            Err(why) => {
                tracing::error!("nobody took over, the sidecar goes on: {why:#}");
                None
            }
        }
    }
}

/// What goes to a successor beside the state in memory.
#[derive(Debug)]
pub(super) struct Heritage {
    pub(super) bid: Bid,
    pub(super) sockets: Vec<(Place, OwnedFd)>,
    /// The authority behind interception.
    pub(super) authority: Option<Arc<CaAuthority>>,
}

/// A successor that goes on.
#[derive(Debug)]
pub(super) struct Successor {
    link: Rc<Link>,
    parked: mpsc::UnboundedReceiver<Parked>,
}

impl Heritage {
    /// Gives everything to `heir`.
    ///
    /// # Errors
    /// Why it got nothing, and everything goes on as before.
    async fn hand_over(
        &self,
        heir: Heir,
        outrider: &Outrider,
        drain: &Drain,
    ) -> anyhow::Result<Successor> {
        let mut stream = heir.stream;
        stream.write_all(b"\n").await?;
        let link = Link::over(stream);
        if heir.bid != self.bid {
            return refuse(&link, "agent, decision log or security log is another one").await;
        }
        // Holding it would wait for a disk that hangs.
        if !outrider.recorder.log.healthy() {
            return refuse(&link, UNWRITABLE).await;
        }
        // What is undecided after that is refused: its line cannot be written.
        timeout(DECIDED, drain.hold()).await.ok();
        let left = timeout(ABLE, self.leave(&link, outrider)).await;
        if let Err(why) = left.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long"))) {
            outrider.recorder.log.resume();
            drain.resume();
            return Err(why);
        }
        let (way, parked) = mpsc::unbounded_channel();
        drain.depart(way);
        let link = Rc::new(link);
        Ok(Successor { link, parked })
    }

    /// Offers everything, and gives it up once the successor says that it can go on.
    async fn leave(&self, link: &Link, outrider: &Outrider) -> anyhow::Result<()> {
        let recorder = &outrider.recorder;
        let Ok(log) = recorder.log.hold(Timestamp::now()) else {
            return refuse(link, UNWRITABLE).await;
        };
        let security = recorder.security.share()?;
        let (mut places, mut with) = (
            vec![Place::DecisionLog, Place::SecurityLog],
            vec![log.as_fd(), security.as_fd()],
        );
        let state = match &outrider.store {
            Store::Memory | Store::Fleet(_) => None,
            Store::File(journal) => {
                places.push(Place::State(absolute(journal.path())?));
                Some(journal.share()?)
            }
        };
        with.extend(state.iter().map(|state| state.as_fd()));
        for (place, socket) in &self.sockets {
            places.push(place.clone());
            with.push(socket.as_fd());
        }
        let estate = Estate {
            places,
            issuer: Arc::clone(outrider.authority.tasks.issuer()),
            authority: outrider.authority.leave(),
            uses: outrider.uses.leave(),
            keys: outrider.signer.leave(Timestamp::now()),
            ca_key: self.authority.as_deref().map(CaKey::of),
        };
        link.send(&Bequest::Estate(Box::new(estate)), &with).await?;
        let answer = link.receive().await?;
        anyhow::ensure!(
            matches!(answer, Some((Claim::Able, _))),
            "it cannot go on; its own messages say why"
        );
        Ok(link.send(&Bequest::Yours, &[]).await?)
    }
}

/// Tells why nothing is handed over.
async fn refuse<T>(link: &Link, why: &'static str) -> anyhow::Result<T> {
    link.send(&Bequest::Refused(why.into()), &[]).await?;
    anyhow::bail!(why)
}

impl Successor {
    /// Sends what calls leave over, until all of them have ended.
    pub(super) async fn see_through(self, outrider: &Outrider, ended: impl Future<Output = ()>) {
        let Self { link, mut parked } = self;
        let mut claims = link.messages::<Claim>();
        let mut ticks = interval(OUTCOMES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = std::pin::pin!(ended);
        loop {
            let sent = tokio::select! {
                () = &mut ended => break,
                Some(connection) = parked.recv() => pass(&link, connection).await,
                Some((claim, _)) = claims.recv() => {
                    cut(&outrider.authority, claim);
                    continue;
                }
                _ = ticks.tick() => tell(&link, outrider.recorder.log.take_waiting()).await,
            };
            if let Err(error) = sent {
                tracing::error!(%error, "the successor is gone");
                return ended.await;
            }
        }
        let rest = async {
            while let Ok(connection) = parked.try_recv() {
                pass(&link, connection).await?;
            }
            tell(&link, outrider.recorder.take_last(Timestamp::now())).await
        };
        if let Err(error) = rest.await {
            tracing::error!(%error, "the successor is gone");
        }
    }
}

async fn pass(link: &Link, connection: Parked) -> std::io::Result<()> {
    let Parked {
        socket,
        listener,
        ahead,
    } = connection;
    let with: [BorrowedFd<'_>; 1] = match &socket {
        Socket::Tcp(socket) => [socket.as_fd()],
        Socket::Unix(socket) => [socket.as_fd()],
    };
    let ahead = STANDARD.encode(ahead);
    link.send(&Bequest::Connection { listener, ahead }, &with)
        .await
}

/// Sends lines of the log over.
async fn tell(link: &Link, lines: Vec<u8>) -> std::io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let lines = String::from_utf8(lines).map_err(std::io::Error::other)?;
    link.send(&Bequest::Lines(lines), &[]).await
}

fn cut(authority: &Authority, claim: Claim) {
    match claim {
        Claim::Able => {}
        // What cannot be carried out has no calls here.
        Claim::Decreed(decree) => drop(authority.carry_out(&decree)),
    }
}
