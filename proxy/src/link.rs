//! A conversation between two processes of ours: messages, some with open descriptors, over one
//! Unix socket whose other end the kernel vouched for.
//!
//! Four bytes of length, to which the descriptors are tied, then so many of JSON. It carries
//! secrets, and nothing of it is ever written to a file.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream, sync::mpsc};

/// Room for as many descriptors as the kernel sends with one message.
const ROOM: usize = rustix::cmsg_space!(ScmRights(253));

/// Bytes of a message: more than all tasks there can be.
const LONGEST: usize = 1 << 30;

/// One end.
#[derive(Debug)]
pub(crate) struct Link(UnixStream);

impl Link {
    pub(crate) fn over(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Gives the socket up, for another runtime.
    pub(crate) fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        self.0.into_std()
    }

    /// Sends one message. One task at a time sends.
    pub(crate) async fn send<M: Serialize>(
        &self,
        message: &M,
        with: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let length = length.to_be_bytes();
        let head = || send_head(&self.0, length, with);
        if self.0.async_io(Interest::WRITABLE, head).await? != length.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let write = || self.0.try_write(rest);
            let written = self.0.async_io(Interest::WRITABLE, write).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives one message with its descriptors; `None` when the other end is gone. One task at a
    /// time receives.
    pub(crate) async fn receive<M: DeserializeOwned>(
        &self,
    ) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let (mut length, mut with) = ([0; 4], Vec::new());
        let head = || receive_head(&self.0, &mut length, &mut with);
        match self.0.async_io(Interest::READABLE, head).await? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = vec![0; length];
        let mut filled = 0;
        while let Some(space) = text.get_mut(filled..).filter(|space| !space.is_empty()) {
            let read = || self.0.try_read(space);
            match self.0.async_io(Interest::READABLE, read).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(Some((serde_json::from_slice(&text)?, with)))
    }

    /// Receives to the end, on a task of its own, so that waiting for a message can be given up.
    pub(crate) fn messages<M>(self: &Rc<Self>) -> mpsc::UnboundedReceiver<(M, Vec<OwnedFd>)>
    where
        M: DeserializeOwned + 'static,
    {
        let (sender, messages) = mpsc::unbounded_channel();
        let link = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // An end that breaks is an end.
            while let Ok(Some(message)) = link.receive().await {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        messages
    }
}

fn send_head(stream: &UnixStream, length: [u8; 4], with: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
        return Err(io::Error::other("too many sockets for one message"));
    }
    let bytes = [IoSlice::new(&length)];
    Ok(sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_head(
    stream: &UnixStream,
    length: &mut [u8; 4],
    with: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(length)];
    let received = recvmsg(stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            with.extend(descriptors);
        }
    }
    Ok(received.bytes)
}
