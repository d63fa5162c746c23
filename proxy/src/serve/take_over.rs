//! The successor's side of a take-over: what a running sidecar has becomes ours, or nothing of it.

use std::{
    io::Read as _, os::fd::OwnedFd, os::unix::net::UnixStream, path::Path, rc::Rc, sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::net::sockopt::socket_peercred;
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};

use super::bequest::{Bequest, Claim, Estate, Place};
use crate::{
    control::{
        Access, client,
        wire::{Bid, Fault, Reply, Request},
    },
    drain::Draining,
    link::Link,
    listen::{Socket, accept::Entrance},
    outrider::Outrider,
    state::Decree,
};

/// How long the predecessor may take for each step: it may have to wait for its own predecessor,
/// whose calls have as long as a drain.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions to a sidecar that is being replaced by another one.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of the first line of the answer.
const LONGEST_LINE: usize = 4096;

/// What a predecessor offers; it goes on with it itself unless [`Offer::accept`] is called.
#[derive(Debug)]
pub(super) struct Offer {
    runtime: Runtime,
    link: Link,
    /// The state it had in memory, and the places whose descriptors were not taken yet.
    pub(super) estate: Estate,
    descriptors: Vec<OwnedFd>,
}

impl Offer {
    /// Asks the sidecar behind that control socket for everything.
    ///
    /// # Errors
    /// When there is none, or why it gives nothing; it goes on as before.
    pub(super) fn ask(control: &Path, access: &Access, bid: Bid) -> anyhow::Result<Self> {
        let stream = welcomed(control, access, &Request::TakeOver(bid))?;
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let link = {
            let _entered = runtime.enter();
            Link::over(tokio::net::UnixStream::from_std(stream)?)
        };
        let offered = runtime.block_on(heard(&link))?;
        let (estate, descriptors) = match offered {
            (Bequest::Estate(estate), descriptors) => (*estate, descriptors),
            (Bequest::Refused(why), _) => anyhow::bail!("the running sidecar refuses: {why}"),
            _ => anyhow::bail!("the running sidecar answers something else"),
        };
        anyhow::ensure!(
            estate.places.len() == descriptors.len(),
            "some sockets of the running sidecar were lost on the way: raise the limit of open files"
        );
        Ok(Self {
            runtime,
            link,
            estate,
            descriptors,
        })
    }

    /// The descriptor for that place, if it is among those offered.
    pub(super) fn take(&mut self, place: &Place) -> Option<OwnedFd> {
        let found = self.estate.places.iter().position(|known| known == place)?;
        self.estate.places.swap_remove(found);
        Some(self.descriptors.swap_remove(found))
    }

    /// Says that we can go on, and waits until everything is ours.
    ///
    /// # Errors
    /// When the predecessor has given up waiting: then it goes on itself.
    pub(super) fn accept(self) -> anyhow::Result<Predecessor> {
        let Self { runtime, link, .. } = self;
        let link = runtime.block_on(async {
            link.send(&Claim::Able, &[]).await?;
            match heard(&link).await? {
                (Bequest::Yours, _) => anyhow::Ok(link.into_std()?),
                _ => anyhow::bail!("the running sidecar answers something else"),
            }
        })?;
        Ok(Predecessor { link })
    }
}

/// Connects and asks until the sidecar there answers for itself.
fn welcomed(control: &Path, access: &Access, request: &Request) -> anyhow::Result<UnixStream> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = client::connect(control)
            .context("`--take-over`: start without it if no sidecar is running")?;
        let uid = socket_peercred(&stream)?.uid.as_raw();
        anyhow::ensure!(
            access.admits_sidecar(uid),
            "what answers at `{}` runs as uid {uid}: nothing is taken over but from a sidecar that runs as this user or root, and never from a uid in `listeners[].peers`",
            control.display()
        );
        stream.set_read_timeout(Some(PATIENCE))?;
        client::say(&mut stream, request)?;
        let line = first_line(&mut stream)?;
        if line.is_empty() {
            return Ok(stream);
        }
        let reply = serde_json::from_slice(&line);
        match reply.context("the running sidecar's answer is not understood")? {
            Reply::Refused(refusal)
                if refusal.fault == Fault::Replaced && std::time::Instant::now() < end =>
            {
                std::thread::sleep(PAUSE);
            }
            Reply::Refused(refusal) => anyhow::bail!("the running sidecar refuses: {refusal}"),
            _ => anyhow::bail!("the running sidecar answers something else"),
        }
    }
}

/// Reads the first line alone: what follows it comes with descriptors.
fn first_line(stream: &mut UnixStream) -> anyhow::Result<Vec<u8>> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < LONGEST_LINE {
        stream
            .read_exact(&mut byte)
            .context("the running sidecar did not answer")?;
        if byte == *b"\n" {
            break;
        }
        line.extend_from_slice(&byte);
    }
    Ok(line)
}

async fn heard(link: &Link) -> anyhow::Result<(Bequest, Vec<OwnedFd>)> {
    let heard = timeout(PATIENCE, link.receive())
        .await
        .context("the running sidecar did not answer in time")??;
    heard.context("the running sidecar has ended the take-over: its log says why")
}

/// A predecessor whose calls still run.
#[derive(Debug)]
pub(super) struct Predecessor {
    link: UnixStream,
}

impl Predecessor {
    /// Takes what its calls leave over, and tells it of decrees, until it is gone. Its
    /// connections are served here while connections are.
    pub(super) async fn see_off(
        self,
        outrider: Arc<Outrider>,
        entrances: Vec<Entrance>,
        mut decrees: mpsc::UnboundedReceiver<Decree>,
        mut drain: Draining,
    ) {
        let link = match tokio::net::UnixStream::from_std(self.link) {
            Ok(link) => Rc::new(Link::over(link)),
            Err(error) => return tracing::error!(%error, "what the predecessor leaves is lost"),
        };
        let mut bequests = link.messages();
        let mut entrances = Some(entrances);
        loop {
            let (bequest, with) = tokio::select! {
                bequest = bequests.recv() => match bequest {
                    Some(bequest) => bequest,
                    None => return,
                },
                Some(decree) = decrees.recv() => {
                    // A predecessor that is gone has no calls.
                    link.send(&Claim::Decreed(decree), &[]).await.ok();
                    continue;
                }
                () = drain.changed(), if entrances.is_some() => {
                    entrances.take_if(|_| drain.has_begun());
                    continue;
                }
            };
            match bequest {
                Bequest::Connection { listener, ahead } => {
                    let entrance = entrances.iter().flatten().find(|e| e.name() == &*listener);
                    if let (Some(entrance), Some(socket)) = (entrance, with.into_iter().next()) {
                        inherit(entrance, socket, &ahead);
                    }
                }
                Bequest::Lines(lines) => lines.lines().for_each(|line| {
                    if outrider.recorder.log.defer(line.as_bytes()).is_err() {
                        tracing::error!("an outcome line of the predecessor is lost");
                    }
                }),
                Bequest::Refused(_) | Bequest::Estate(_) | Bequest::Yours => {}
            }
        }
    }
}

fn inherit(entrance: &Entrance, socket: OwnedFd, ahead: &str) {
    let socket = if entrance.is_tcp() {
        Socket::Tcp(socket.into())
    } else {
        Socket::Unix(socket.into())
    };
    // An agent that is gone needs nobody.
    entrance
        .inherit(socket, STANDARD.decode(ahead).unwrap_or_default())
        .ok();
}
