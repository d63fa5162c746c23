//! A timer of its own for each connection: the runtime's has steps of a millisecond.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel (`timerfd_create(2)`).
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "sound for a descriptor that it owns; the function in its place is unsafe"
    )]
    pub(super) fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(
            TimerfdClockId::Monotonic,
            flags,
        )?)?))
    }

    /// Waits until then; not at all when it is past.
    pub(super) async fn until(&self, then: Instant) -> Result<()> {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO)?,
            it_value: timespec(left)?,
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.0.readable().await?;
        rustix::io::read(self.0.get_ref(), &mut [0; 8])?;
        ready.clear_ready();
        Ok(())
    }
}

fn timespec(duration: Duration) -> Result<Timespec> {
    Ok(Timespec {
        tv_sec: duration.as_secs().try_into()?,
        tv_nsec: duration.subsec_nanos().into(),
    })
}
