//! A terminal that is borrowed: its screen, its keys, its size. It is given back as it was.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    thread,
    time::Duration,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};

use super::screen::Size;

/// Another screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Everything as it was.
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Tick,
    Resized,
    End,
}

/// The terminal of this process.
#[derive(Debug)]
pub(super) struct Terminal {
    keys: Option<Keys>,
    ticks: Interval,
    resized: Signal,
    ends: [Signal; 3],
}

impl Terminal {
    /// Borrows it.
    pub(super) fn take(every: Duration) -> io::Result<Self> {
        let end = |kind| signal(kind);
        let ends = [
            end(SignalKind::interrupt())?,
            end(SignalKind::terminate())?,
            end(SignalKind::hangup())?,
        ];
        let resized = signal(SignalKind::window_change())?;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once.
        ticks.reset();
        // Without keys, a signal ends it.
        let keys = Keys::take().ok();
        let mut out = io::stdout().lock();
        out.write_all(ENTER)?;
        out.flush()?;
        Ok(Self {
            keys,
            ticks,
            resized,
            ends,
        })
    }

    #[expect(clippy::unused_self, reason = "only whoever has the terminal asks")]
    pub(super) fn size(&self) -> Size {
        let known = tcgetwinsize(io::stdout().as_fd()).ok();
        let known = known.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        known.map_or(
            Size {
                columns: 80,
                rows: 24,
            },
            |size| Size {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
            },
        )
    }

    /// Draws the lines from the top; what was there goes.
    #[expect(clippy::unused_self, reason = "only whoever has the terminal draws")]
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut page = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                page.push_str("\r\n");
            }
            page.push_str(line);
            page.push_str("\x1b[K");
        }
        page.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(page.as_bytes())?;
        out.flush()
    }

    /// Waits for what comes next.
    pub(super) async fn event(&mut self) -> Event {
        let [interrupt, terminate, hang_up] = &mut self.ends;
        tokio::select! {
            _ = self.ticks.tick() => Event::Tick,
            _ = self.resized.recv() => Event::Resized,
            _ = interrupt.recv() => Event::End,
            _ = terminate.recv() => Event::End,
            _ = hang_up.recv() => Event::End,
            () = quit(self.keys.as_mut()) => Event::End,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // A terminal that is gone needs nothing back.
        out.write_all(LEAVE).and_then(|()| out.flush()).ok();
    }
}

/// Waits for the key that ends it.
async fn quit(keys: Option<&mut Keys>) {
    match keys {
        Some(keys) => keys.quit.recv().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Keys as they are pressed, not shown.
#[derive(Debug)]
struct Keys {
    quit: mpsc::Receiver<()>,
    before: Termios,
}

impl Keys {
    fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut now = before.clone();
        // Ctrl-C stays a signal.
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &now)?;
        let (pressed, quit) = mpsc::channel(1);
        // Nothing can wake who reads a terminal: this thread ends with the process.
        thread::Builder::new().spawn(move || {
            let mut keys = io::stdin().lock().bytes().map_while(Result::ok);
            // Whether the key came or the terminal went: it is over.
            keys.find(|key| *key == b'q');
            pressed.blocking_send(()).ok();
        })?;
        Ok(Self { quit, before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.before).ok();
    }
}
