//! How long a credential is good for, and how long to wait after a failure.

use std::time::Duration;

use jiff::Timestamp;

/// The longest wait after failures.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The first wait after a failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// How long before its expiry a credential is replaced at most.
const MARGIN: Duration = Duration::from_secs(30);

/// What a server may give less than it says: it counts in whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

/// The life of one credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// When it was asked for.
    pub(super) got: Timestamp,
    /// From when on another one is fetched.
    stale: Timestamp,
    /// From when on it is not used any more: it must still be good when it arrives.
    over: Timestamp,
    /// When it expires.
    pub(super) expires: Timestamp,
}

impl Span {
    /// The life of a credential that was asked for then and is good for `lifetime`, and no longer
    /// than its task.
    pub(super) fn new(got: Timestamp, lifetime: Duration, ends: Option<Timestamp>) -> Self {
        let at = |after: Duration| got.checked_add(after).unwrap_or(Timestamp::MAX);
        let sure = lifetime.saturating_sub(ROUNDING.min(lifetime / 2));
        let margin = (lifetime / 10).min(MARGIN);
        // Sidecars that fetched at the same time do not all come back at the same time.
        let early = margin.mul_f64(1.0 + chance());
        let over = at(sure.saturating_sub(margin / 2));
        Self {
            got,
            stale: at(sure.saturating_sub(early)),
            over: ends.map_or(over, |ends| over.min(ends)),
            expires: at(lifetime),
        }
    }

    /// Whether it may be used. A clock that was set back tells nothing: then it may not.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        self.got <= now && now < self.over
    }

    /// Whether another one should be fetched.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        !(self.got <= now && now < self.stale)
    }
}

/// A wait that doubles with each failure in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Backoff {
    failed: Timestamp,
    times: u32,
    until: Timestamp,
}

impl Backoff {
    /// The wait after one more failure.
    pub(super) fn after(before: Option<Self>, now: Timestamp) -> Self {
        let times = before
            .map_or(0, |before| before.times.saturating_add(1))
            .min(16);
        let wait = FIRST_BACKOFF
            .saturating_mul(1 << times)
            .min(LONGEST_BACKOFF);
        let wait = wait.mul_f64(0.5 + chance() / 2.0);
        Self {
            failed: now,
            times,
            until: now.checked_add(wait).unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether it is still to be waited.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        self.failed <= now && now < self.until
    }

    /// Whether it is worth being remembered, so that the next failure waits longer.
    pub(super) fn is_recent(&self, now: Timestamp) -> bool {
        let since = Duration::try_from(now.duration_since(self.failed)).unwrap_or_default();
        since < LONGEST_BACKOFF * 2
    }
}

/// A number from 0 to 1, another one each time.
fn chance() -> f64 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn span(lifetime: u64, ends: Option<i64>) -> Span {
        Span::new(at(0), Duration::from_secs(lifetime), ends.map(at))
    }

    #[test]
    fn a_credential_is_replaced_before_it_is_over_and_over_before_it_expires() {
        for _ in 0..100 {
            let hour = span(3600, None);
            assert!(!hour.is_stale(at(3600 - 62)) && hour.is_stale(at(3600 - 31)));
            assert!(hour.is_good(at(3583)) && !hour.is_good(at(3584)));
            let minute = span(60, None);
            assert!(!minute.is_stale(at(46)) && minute.is_stale(at(53)));
            assert!(minute.is_good(at(55)) && !minute.is_good(at(56)));
            let short = span(2, None);
            assert!(short.is_good(at(0)) && !short.is_good(at(1)));
        }
    }

    #[test]
    fn a_credential_does_not_outlive_its_task_nor_a_clock_that_was_set_back() {
        assert!(!span(3600, Some(10)).is_good(at(10)));
        assert!(span(3600, Some(10)).is_good(at(9)));
        assert!(!span(3600, None).is_good(at(-1)));
        assert!(span(3600, None).is_stale(at(-1)));
    }

    #[test]
    fn each_failure_in_a_row_waits_longer_up_to_a_bound() {
        let mut backoff = None;
        let mut waits = Vec::new();
        for _ in 0..20 {
            let next = Backoff::after(backoff, at(0));
            waits.push(Duration::try_from(next.until.duration_since(at(0))).unwrap());
            assert!(next.lasts(at(0)) && !next.lasts(at(30)));
            backoff = Some(next);
        }
        assert!(waits[0] <= FIRST_BACKOFF && waits[0] >= FIRST_BACKOFF / 2);
        assert!(waits[19] > Duration::from_secs(14));
    }
}
