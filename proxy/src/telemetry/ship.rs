//! One log to one place: read, encoded, sent until it is taken, and only then passed.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

use super::{
    Standing, Stop, numbers,
    sender::{Sender, Sent},
    tail::Tail,
};
use crate::metrics::Metrics;

/// How often a log is looked at that has nothing new.
const LOOK: Duration = Duration::from_millis(200);
/// Between two attempts: from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_mins(1);

/// Records in one message.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) message: Bytes,
    pub(super) count: u64,
}

impl Batch {
    /// None where nothing is in it.
    pub(super) fn of(message: Vec<u8>, count: usize) -> Option<Self> {
        (count > 0).then(|| Self {
            message: message.into(),
            count: u64::try_from(count).unwrap_or_default(),
        })
    }
}

/// Makes messages of lines.
pub(super) trait Batches {
    /// Takes a line, without its newline.
    fn add(&mut self, line: &[u8]);
    /// What is ready to be sent.
    fn take(&mut self) -> Option<Batch>;
}

/// One log to one place.
#[derive(Debug)]
pub(super) struct Shipment {
    tail: Tail,
    signal: &'static str,
    sender: Sender,
    queue: u64,
}

impl Shipment {
    /// `name` keeps apart who reads the same log; no more than `queue` bytes wait.
    pub(super) fn new(
        log: &Path,
        name: &str,
        signal: &'static str,
        sender: Sender,
        queue: u64,
    ) -> Self {
        Self {
            tail: Tail::open(log, name),
            signal,
            sender,
            queue,
        }
    }

    /// Goes on until it is told to stop and nothing is left.
    pub(super) async fn run(
        mut self,
        mut batches: Box<dyn Batches>,
        metrics: Arc<Metrics>,
        mut stop: watch::Receiver<Stop>,
    ) {
        // The place is known from the start: what comes after it is told, whatever happens.
        self.keep();
        loop {
            self.pass_over(&metrics);
            let lines = self.tail.next().unwrap_or_else(|error| {
                tracing::warn!(%error, signal = self.signal, "a log cannot be read to be told");
                Vec::new()
            });
            metrics.telemetry_lag(self.signal, self.tail.behind());
            if lines.is_empty() {
                if stop.borrow().is_said() {
                    return;
                }
                timeout(LOOK, stop.wait_for(|stop| stop.is_said()))
                    .await
                    .ok();
                continue;
            }
            for line in lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                batches.add(line);
            }
            if let Some(batch) = batches.take()
                && !self.deliver(&batch, &metrics, &mut stop).await
            {
                return;
            }
            self.keep();
        }
    }

    fn keep(&self) {
        if let Err(error) = self.tail.keep() {
            tracing::warn!(%error, signal = self.signal, "how far a log was told cannot be kept");
        }
    }

    /// More than may wait is passed over, and counted.
    fn pass_over(&mut self, metrics: &Metrics) {
        match self.tail.pass_over(self.queue) {
            Ok(0) => {}
            Ok(lines) => {
                metrics.telemetry(self.signal, "dropped", lines);
                tracing::warn!(
                    lines,
                    signal = self.signal,
                    "more waited than `telemetry.queue`: lines are not told, they are in the log"
                );
            }
            Err(error) => tracing::warn!(%error, "a log cannot be read to be told"),
        }
    }

    /// Sends until it is taken, or can never be; false when there is no time left for it.
    async fn deliver(
        &mut self,
        batch: &Batch,
        metrics: &Metrics,
        stop: &mut watch::Receiver<Stop>,
    ) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.sender.send(&batch.message).await {
                Sent::Taken { refused } => {
                    let refused = refused.min(batch.count);
                    metrics.telemetry(self.signal, "sent", batch.count - refused);
                    metrics.telemetry(self.signal, "dropped", refused);
                    return true;
                }
                Sent::Refused(why) => {
                    tracing::error!(%why, signal = self.signal, "what was told is refused, and not told again");
                    metrics.telemetry(self.signal, "dropped", batch.count);
                    return true;
                }
                Sent::Away(why, after) => {
                    tracing::warn!(%why, signal = self.signal, "nobody takes what is told: it waits in the log");
                    metrics.telemetry(self.signal, "failed", batch.count);
                    metrics.telemetry_lag(self.signal, self.tail.behind().max(1));
                    let wait = after.unwrap_or_else(|| spread(pause)).min(LAST_PAUSE);
                    pause = (pause * 2).min(LAST_PAUSE);
                    if stop.borrow().is_said() {
                        return false;
                    }
                    timeout(wait, stop.wait_for(|stop| stop.is_said()))
                        .await
                        .ok();
                }
            }
        }
    }
}

/// Between half of a pause and the whole: those who lost the same collector do not come at once.
fn spread(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause / 2 + pause / 2 * u32::from(random) / 256
}

/// Sends the numbers, every so often; those that nobody takes are old by the next time.
pub(super) async fn pages(
    mut sender: Sender,
    every: Duration,
    standing: Standing,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<Stop>,
) {
    let began = jiff::Timestamp::now();
    let mut ticks = interval(every);
    let mut last = false;
    while !last {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| stop.is_said()) => last = true,
        }
        let page = metrics.page(crate::metrics::Format::OpenMetrics);
        let now = jiff::Timestamp::now();
        let Some(batch) = numbers::message(&page, &standing, began, now) else {
            continue;
        };
        let result = match sender.send(&batch.message).await {
            Sent::Taken { .. } => "sent",
            Sent::Refused(why) | Sent::Away(why, _) => {
                tracing::warn!(%why, "nobody takes the numbers");
                "dropped"
            }
        };
        metrics.telemetry("metrics", result, batch.count);
    }
}
