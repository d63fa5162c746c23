//! Histograms whose buckets show a trace (`OpenMetrics` 1.0.0, exemplars).

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::{encoding::EncodeLabelSet, metrics::exemplar::HistogramWithExemplars};

use crate::{call::Trace, json::hex};

/// Between two exemplars of a histogram, unless the later took longer.
const QUIET: Duration = Duration::from_millis(500);

/// Where an observation can be found again.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Trail {
    trace_id: String,
    span_id: String,
}

/// The kind of the families.
pub(super) type Exemplified = HistogramWithExemplars<Trail>;

/// One histogram, and when it last showed a trace.
#[derive(Debug)]
pub(super) struct Timed {
    histogram: Exemplified,
    /// In milliseconds since the process began to count.
    quiet_until: AtomicU64,
    /// The last shown, in nanoseconds.
    shown: AtomicU64,
}

impl Timed {
    pub(super) fn new(histogram: Exemplified) -> Self {
        Self {
            histogram,
            quiet_until: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        }
    }

    /// To be registered.
    pub(super) fn family(&self) -> Exemplified {
        self.histogram.clone()
    }

    /// Notes how long something took, and of which trace that was a part.
    pub(super) fn observe(&self, took: Duration, trace: Option<&Trace>) {
        let trail = trace.filter(|_| self.is_due(took)).map(|trace| Trail {
            trace_id: hex(&trace.trace_id),
            span_id: hex(&trace.span_id),
        });
        let time = trail.is_some().then(SystemTime::now);
        self.histogram.observe(took.as_secs_f64(), trail, time);
    }

    /// Whether it is worth showing: long after the last, or slower than that.
    fn is_due(&self, took: Duration) -> bool {
        let now = millis(began().elapsed());
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let quiet = now < self.quiet_until.load(Ordering::Relaxed);
        if quiet && took <= self.shown.load(Ordering::Relaxed) {
            return false;
        }
        self.quiet_until
            .store(now + millis(QUIET), Ordering::Relaxed);
        self.shown.store(took, Ordering::Relaxed);
        true
    }
}

fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
