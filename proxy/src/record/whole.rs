//! Appends whole or not at all: what a failed write left behind is taken away before anything
//! follows. Where another process appends to the same sink, its bytes may be the last: there, what
//! was left behind is made a line of its own.

use std::io;

use super::file::Sink;

/// When bytes count as being in the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Once the sink took them.
    Written,
    /// Once the sink has made them survive a loss of power.
    Synced,
}

/// A sink that only ever holds what was appended whole, as far as it lets us.
#[derive(Debug)]
pub(crate) struct Whole<S> {
    sink: S,
    counts: Counts,
    /// Bytes at its end that could not be taken away yet.
    partial: usize,
    /// Another process appends as well.
    shared: bool,
}

impl<S: Sink> Whole<S> {
    pub(crate) fn new(sink: S, counts: Counts) -> Self {
        Self {
            sink,
            counts,
            partial: 0,
            shared: false,
        }
    }

    /// From now on another process appends as well; returns the sink for it.
    pub(crate) fn share(&mut self) -> &S {
        self.shared = true;
        &self.sink
    }

    pub(crate) fn sink(&self) -> &S {
        &self.sink
    }

    /// Goes on in another sink and leaves the old one as whole as can be.
    pub(crate) fn move_to(&mut self, sink: S) {
        self.repair().ok();
        self.sink = sink;
        self.partial = 0;
        self.shared = false;
    }

    /// Appends `bytes` with one write.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.repair()?;
        let taken = self.sink.append(bytes)?;
        let settled = if taken == bytes.len() {
            self.settle()
        } else {
            Err(io::ErrorKind::WriteZero.into())
        };
        if settled.is_err() {
            self.partial = taken;
            self.repair()?;
        }
        settled
    }

    /// Hands everything to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.sink.sync()
    }

    /// After a sync that failed, the system may take lost bytes for safe ones: a later sync proves
    /// nothing of them. They are taken back like a partial write, and written anew.
    fn settle(&mut self) -> io::Result<()> {
        match self.counts {
            Counts::Written => Ok(()),
            Counts::Synced => self.sink.sync(),
        }
    }

    /// INVARIANT: nothing is appended behind a partial write.
    fn repair(&mut self) -> io::Result<()> {
        if self.partial > 0 {
            self.undo()?;
            self.partial = 0;
        }
        Ok(())
    }

    fn undo(&mut self) -> io::Result<()> {
        if !self.shared {
            return self.sink.shorten(self.partial);
        }
        match self.sink.append(b"\n")? {
            1 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
