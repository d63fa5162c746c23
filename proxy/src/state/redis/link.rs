//! The way to the store: connects, keeps in touch, and says what is known of it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::redis::{Value, aio::MultiplexedConnection, cmd};
use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Away, FRESH, Fault, QUESTIONS, Settings, Status, WINDOW,
    changes::{self, Changes},
    connect::{Allowance, Prepared, prepare},
    known::Known,
    micros,
    scripts::{Answer, Digests, Script, Words, number, send, text},
};
use crate::limit::shared::Hash;

/// Between two signs of life.
const POLL: Duration = Duration::from_millis(250);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// The first and the longest pause before the next attempt to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(400));
/// Names in one reminder.
const REMINDED: usize = 1_000;
/// Signs of life between two sweeps of what is known.
const SWEEP: u32 = 240;
/// Entries read or told at once.
const ENTRIES: usize = 100;

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
    fn own(&self) -> u64 {
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

    fn heard(&self, now: u64) {
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
struct Open {
    connection: MultiplexedConnection,
    digests: Digests,
    epoch: String,
}

/// What all workers share of the way to the store.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) known: Known,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    pub(super) changes: Changes,
    open: ArcSwapOption<Open>,
    /// Until when what was heard holds, by our own clock.
    fresh: AtomicU64,
    places: Semaphore,
    /// Something was published, or something is wrong: look at once.
    wake: Arc<Notify>,
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

    fn words(&self, epoch: &str) -> Words {
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
    fn tell(&self, detail: String) {
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

/// What is said on one connection.
struct Talk<'a> {
    link: &'a Link,
    connection: MultiplexedConnection,
    allowance: Allowance,
}

/// What the fleet counts by, and since when.
struct Epoch {
    id: String,
    since: u64,
}

impl Talk<'_> {
    async fn run(mut self) -> Fault {
        match self.talk().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn talk(&mut self) -> Result<std::convert::Infallible, Fault> {
        let mut connection = self.connection.clone();
        let digests = self.timed(Digests::load(&mut connection)).await?;
        self.subscribe().await;
        loop {
            let epoch = self.join(&digests).await?;
            self.stay(&digests, &epoch).await?;
            // Another epoch: whatever is asked meanwhile is asked within the old one, in vain.
            self.link.open.store(None);
        }
    }

    /// Wakes us when something is published; without the right to it, polling has to do.
    async fn subscribe(&mut self) {
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(self.link.key("wake"));
        let mut connection = self.connection.clone();
        let subscribed = self.timed(send(&mut connection, &subscribe)).await;
        if let Err(fault) = subscribed {
            tracing::warn!(%fault, "the fleet's store does not tell of changes: they are polled for");
        }
    }

    async fn timed<T>(
        &self,
        asked: impl Future<Output = Result<T, ::redis::RedisError>>,
    ) -> Result<T, Fault> {
        match timeout(self.link.settings.timeout, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Fault::Silent),
        }
    }

    async fn ask(&self, digests: &Digests, script: Script, words: &Words) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        self.timed(digests.run(&mut connection, script, words))
            .await
    }

    /// Learns the epoch, or begins one.
    async fn join(&self, digests: &Digests) -> Result<Epoch, Fault> {
        let words = self.link.words(&uuid::Uuid::new_v4().to_string());
        let Value::Array(answer) = self.ask(digests, Script::Join, &words).await? else {
            return Err(Fault::Strange);
        };
        let [now, id, since, eviction] = answer.as_slice() else {
            return Err(Fault::Strange);
        };
        let known = (number(now), text(id), number(since), text(eviction));
        let (Some(now), Some(id), Some(since), Some(eviction)) = known else {
            return Err(Fault::Strange);
        };
        self.link.clock.heard(now);
        if eviction != "noeviction" {
            tracing::warn!(
                policy = %eviction,
                "the fleet's store may drop counts when it is full: set `maxmemory-policy noeviction`"
            );
        }
        Ok(Epoch { id, since })
    }

    /// Says what is known here, waits until the fleet has, and keeps in touch until the epoch is over.
    async fn stay(&self, digests: &Digests, epoch: &Epoch) -> Result<(), Fault> {
        self.link.changes.all_again();
        if !self.remind(digests, epoch).await? {
            return Ok(());
        }
        let opens = epoch.since.saturating_add(micros(WINDOW));
        let mut beats = 0u32;
        let mut seen = 0;
        loop {
            self.allowance.renew();
            let asked = self.link.clock.own();
            let mut words = self.link.words(&epoch.id);
            words.key(self.link.key("order"));
            words.key(self.link.key("entries"));
            words.number(seen);
            words.number(ENTRIES as u64);
            words.number(changes::LONGEST as u64);
            let answer = self.ask(digests, Script::Poll, &words).await?;
            let answer = Answer::read(answer).ok_or(Fault::Strange)?;
            if answer.word != "ok" {
                return Ok(());
            }
            let (last, more) = self.follow(&answer, seen);
            seen = last;
            self.link.clock.heard(answer.now);
            if more {
                continue;
            }
            if !self.tell(digests, epoch).await? {
                return Ok(());
            }
            let until = asked.saturating_add(micros(FRESH));
            self.link.fresh.store(until, Ordering::Release);
            if answer.now < opens {
                self.link.tell("recovering: it began anew".into());
            } else if !self.link.is_up() {
                self.link.open.store(Some(Arc::new(Open {
                    connection: self.connection.clone(),
                    digests: digests.clone(),
                    epoch: epoch.id.clone(),
                })));
                self.link.tell("up".into());
            }
            beats = beats.wrapping_add(1);
            if beats.is_multiple_of(SWEEP) {
                self.link.known.sweep(answer.now);
                self.link.changes.sweep(answer.now);
            }
            tokio::select! {
                () = self.link.wake.notified() => {}
                () = sleep(POLL) => {}
            }
        }
    }

    /// Takes entries in; gives the last number, and whether there may be more.
    fn follow(&self, answer: &Answer, seen: u64) -> (u64, bool) {
        let mut last = seen;
        let (pairs, _) = answer.rest.as_chunks::<2>();
        for [at, entry] in pairs {
            last = last.max(number(at).unwrap_or(last));
            match entry {
                Value::BulkString(text) => self.link.changes.hear(text, answer.now),
                _ => self.link.changes.hear(b"", answer.now),
            }
        }
        (last, last > seen && pairs.len() == ENTRIES)
    }

    /// Tells what is to be told; whether the epoch is still the same.
    async fn tell(&self, digests: &Digests, epoch: &Epoch) -> Result<bool, Fault> {
        loop {
            let batch = self.link.changes.next(ENTRIES);
            if batch.is_empty() {
                return Ok(true);
            }
            let mut words = self.link.words(&epoch.id);
            for key in ["order", "entries", "ends"] {
                words.key(self.link.key(key));
            }
            words.number(changes::MOST);
            words.text(&self.link.key("wake"));
            for told in &batch {
                words.text(&URL_SAFE_NO_PAD.encode(told.entry.subject));
                words.number(told.entry.number);
                words.text(&told.entry.text);
                words.number(told.entry.over);
            }
            let answer = self.ask(digests, Script::Tell, &words).await;
            let answer = answer.and_then(|answer| Answer::read(answer).ok_or(Fault::Strange));
            let results = match answer {
                Ok(answer) if answer.word == "ok" => answer.numbers().unwrap_or_default(),
                Ok(answer) => {
                    self.link.changes.back(batch);
                    if answer.word == "full" {
                        tracing::error!("the fleet's store has no room for further changes");
                        return Ok(true);
                    }
                    return Ok(false);
                }
                Err(fault) => {
                    self.link.changes.back(batch);
                    return Err(fault);
                }
            };
            if results.len() != batch.len() {
                self.link.changes.back(batch);
                return Err(Fault::Strange);
            }
            for (told, there) in batch.into_iter().zip(results) {
                self.link.changes.told(told, there);
            }
        }
    }

    /// Reminds the store of what is known; whether the epoch is still the same.
    async fn remind(&self, digests: &Digests, epoch: &Epoch) -> Result<bool, Fault> {
        let now = self.link.clock.now();
        let all = self.link.known.all(now);
        let mut batches = all.chunks(REMINDED).peekable();
        while let Some(batch) = batches.next() {
            let mut words = self.link.words(&epoch.id);
            words.number(if batches.peek().is_some() {
                micros(WINDOW)
            } else {
                0
            });
            for (name, number) in batch {
                words.key(self.link.name(name));
                words.number(number.value);
                words.number(number.forget.saturating_sub(now).div_ceil(1_000) + 1_000);
            }
            self.allowance.renew();
            let answer = self.ask(digests, Script::Remind, &words).await?;
            let answer = Answer::read(answer).ok_or(Fault::Strange)?;
            if answer.word != "ok" {
                return Ok(false);
            }
        }
        Ok(true)
    }
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
