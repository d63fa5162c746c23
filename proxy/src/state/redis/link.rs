//! The way to the store, as workers see it; and the thread that keeps it open.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::redis::aio::MultiplexedConnection;
use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Away, FRESH, Fault, QUESTIONS, Settings, Status, WINDOW,
    changes::Changes,
    connect::{Prepared, prepare},
    known::Known,
    micros,
    scripts::{Answer, Digests, Script, Words},
    talk::Talk,
};
use crate::limit::shared::Hash;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// The first and the longest pause before the next attempt to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(400));

/// The time of the store.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    /// The store's time minus ours, in microseconds; none before the first answer.
    ahead: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            ahead: AtomicI64::new(i64::MIN),
        }
    }
}

impl Clock {
    /// Ours, which never goes back.
    pub(super) fn own(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// The store's, as far as it is known: never ahead of it by more than it was set back since.
    pub(super) fn now(&self) -> u64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead == i64::MIN {
            let now = jiff::Timestamp::now().as_microsecond();
            return u64::try_from(now).unwrap_or(0);
        }
        self.own().saturating_add_signed(ahead)
    }

    pub(super) fn heard(&self, now: u64) {
        let ahead = i128::from(now) - i128::from(self.own());
        let ahead = i64::try_from(ahead).unwrap_or(0);
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

/// How many questions were answered.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answered: AtomicU64,
    unanswered: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, answered: bool) {
        let counter = if answered {
            &self.answered
        } else {
            &self.unanswered
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> [(&'static str, u64); 2] {
        [
            ("answered", self.answered.load(Ordering::Relaxed)),
            ("unanswered", self.unanswered.load(Ordering::Relaxed)),
        ]
    }
}

/// A store that can be asked.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    pub(super) digests: Digests,
    pub(super) epoch: String,
}

/// What all workers share of the way to the store.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) known: Known,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    pub(super) changes: Changes,
    pub(super) open: ArcSwapOption<Open>,
    /// Until when what was heard holds, by our own clock.
    pub(super) fresh: AtomicU64,
    places: Semaphore,
    /// Something was published, or something is wrong: look at once.
    pub(super) wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    detail: Mutex<String>,
}

impl Link {
    pub(super) fn new(settings: Settings, changes: Changes) -> Self {
        Self {
            settings,
            changes,
            known: Known::default(),
            clock: Clock::default(),
            tally: Tally::default(),
            open: ArcSwapOption::empty(),
            fresh: AtomicU64::new(0),
            places: Semaphore::new(QUESTIONS),
            wake: Arc::default(),
            stop: watch::Sender::new(false),
            detail: Mutex::new("connecting".into()),
        }
    }

    /// Whether the store can be asked.
    pub(super) fn is_up(&self) -> bool {
        self.open.load().is_some()
    }

    /// Whether what was heard still holds.
    pub(super) fn is_fresh(&self) -> bool {
        self.clock.own() < self.fresh.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> Status {
        let fresh = self.fresh.load(Ordering::Acquire);
        let heard = (fresh > 0).then(|| fresh.saturating_sub(micros(FRESH)));
        let age = heard.map(|heard| Duration::from_micros(self.clock.own().saturating_sub(heard)));
        Status {
            up: self.is_up() && self.is_fresh(),
            age,
            detail: self.lock().clone(),
        }
    }

    /// A key of its own.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.settings.prefix)
    }

    /// The key of a hashed name.
    pub(super) fn name(&self, hash: &Hash) -> String {
        let mut key = self.key("n:");
        URL_SAFE_NO_PAD.encode_string(hash, &mut key);
        key
    }

    /// Asks a question of a worker; `fill` adds keys and arguments and is told the store's time.
    pub(super) async fn ask(
        &self,
        script: Script,
        fill: impl FnOnce(&mut Words, u64),
    ) -> Result<Answer, Away> {
        let open = self.open.load_full().ok_or(Away)?;
        let _place = self.places.try_acquire().map_err(|_| Away)?;
        let mut words = self.words(&open.epoch);
        words.number(micros(WINDOW));
        fill(&mut words, self.clock.now());
        let mut connection = open.connection.clone();
        let asked = open.digests.run(&mut connection, script, &words);
        let answer = match timeout(self.settings.timeout, asked).await {
            Ok(Ok(answer)) => Answer::read(answer),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(answer) = answer else {
            self.wake.notify_one();
            return Err(Away);
        };
        self.clock.heard(answer.now);
        if matches!(&*answer.word, "epoch" | "early") {
            self.wake.notify_one();
            return Err(Away);
        }
        Ok(answer)
    }

    pub(super) fn words(&self, epoch: &str) -> Words {
        let mut words = Words::default();
        words.key(self.key("epoch"));
        words.text(epoch);
        words
    }

    /// There is something to tell.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how it stands, once for each change.
    pub(super) fn tell(&self, detail: String) {
        let mut told = self.lock();
        if *told != detail {
            tracing::info!(store = %detail, "the fleet's store");
            *told = detail;
        }
    }

    /// Keeps a connection until it is told to stop.
    async fn keep(&self) {
        let mut stop = self.stop.subscribe();
        let (first, longest) = PAUSES;
        let mut pause = first;
        loop {
            let began = Instant::now();
            let fault = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                fault = self.session() => fault,
            };
            self.open.store(None);
            self.tell(format!("away: {fault}"));
            pause = if began.elapsed() > longest * 4 {
                first
            } else {
                (pause * 2).min(longest)
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep(jittered(pause)) => {}
            }
        }
        self.open.store(None);
    }

    /// One connection, to its end.
    async fn session(&self) -> Fault {
        let preparing = prepare(&self.settings, Arc::clone(&self.wake));
        let prepared = match timeout(CONNECT, preparing).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(fault)) => return fault,
            Err(_) => return Fault::Silent,
        };
        let Prepared {
            who,
            stream,
            manner,
            allowance,
        } = prepared;
        let greeting = MultiplexedConnection::new_with_config(&who, stream, manner);
        let (connection, driver) = match timeout(CONNECT, greeting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return error.into(),
            Err(_) => return Fault::Silent,
        };
        let talk = Talk {
            link: self,
            connection,
            allowance,
        };
        tokio::select! {
            () = driver => Fault::Broken,
            fault = talk.run() => fault,
        }
    }
}

/// Not all at once after the store was away.
fn jittered(pause: Duration) -> Duration {
    let [byte, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause / 2 + pause * u32::from(byte) / 512
}

/// The thread that keeps the way open.
#[derive(Debug)]
pub(super) struct Thread {
    stop: watch::Sender<bool>,
    handle: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Thread {
    pub(super) fn start(link: Arc<Link>) -> io::Result<Self> {
        let stop = link.stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = thread::Builder::new()
            .name("outrider-state".into())
            .spawn(move || runtime.block_on(link.keep()))?;
        Ok(Self {
            stop,
            handle: Mutex::new(Some(handle)),
        })
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handle.take() {
            // A panic was reported by its thread.
            handle.join().ok();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop();
    }
}
