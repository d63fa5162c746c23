//! What is said on one connection: joins the fleet, reminds the store of what is known, and keeps in
//! touch.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ::redis::{Value, aio::MultiplexedConnection, cmd};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::{sleep, timeout};

use super::{
    FRESH, Fault, WINDOW, changes,
    connect::Allowance,
    link::{Link, Open},
    micros,
    scripts::{Answer, Digests, Script, Words, number, send, text},
};

/// Between two signs of life.
const POLL: Duration = Duration::from_millis(250);
/// Names in one reminder.
const REMINDED: usize = 1_000;
/// Between two sweeps of what is known.
const SWEEP: Duration = Duration::from_mins(1);
/// Entries read or told at once.
const ENTRIES: usize = 100;

/// What is said on one connection.
pub(super) struct Talk<'a> {
    pub(super) link: &'a Link,
    pub(super) connection: MultiplexedConnection,
    pub(super) allowance: Allowance,
}

/// What the fleet counts by, and since when.
struct Epoch {
    id: String,
    since: u64,
}

/// How far telling came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// To its end.
    Done,
    /// There may be more.
    More,
    /// The epoch is over.
    Elsewhere,
}

impl Talk<'_> {
    /// Talks until something is wrong.
    pub(super) async fn run(mut self) -> Fault {
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
        let mut words = self.link.words(&uuid::Uuid::new_v4().to_string());
        let key = self.link.settings.names().hash([&b"fleet"[..]]);
        let key = URL_SAFE_NO_PAD.encode(key);
        words.text(&key);
        let Value::Array(answer) = self.ask(digests, Script::Join, &words).await? else {
            return Err(Fault::Strange);
        };
        let [now, id, since, eviction, theirs] = answer.as_slice() else {
            return Err(Fault::Strange);
        };
        let known = (number(now), text(id), number(since), text(eviction));
        let (Some(now), Some(id), Some(since), Some(eviction)) = known else {
            return Err(Fault::Strange);
        };
        if text(theirs) != Some(key) {
            return Err(Fault::Foreign);
        }
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
        let mut swept = Instant::now();
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
            let telling = self.tell(digests, epoch).await?;
            if telling == Telling::Elsewhere {
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
            if telling == Telling::More {
                continue;
            }
            if swept.elapsed() > SWEEP {
                swept = Instant::now();
                self.link.known.sweep(answer.now);
                self.link.changes.sweep(answer.now);
                // Somebody may have written over what is there.
                self.link.changes.all_again();
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

    /// Tells what is to be told, some of it.
    async fn tell(&self, digests: &Digests, epoch: &Epoch) -> Result<Telling, Fault> {
        let changes = &self.link.changes;
        let batch = changes.next(ENTRIES);
        if batch.is_empty() {
            return Ok(Telling::Done);
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
        let results = answer.as_ref().ok().and_then(Answer::numbers);
        match (answer, results) {
            (Ok(answer), Some(results)) if answer.word == "ok" && results.len() == batch.len() => {
                for (told, there) in batch.into_iter().zip(results) {
                    changes.told(told, there);
                }
                Ok(Telling::More)
            }
            (answer, _) => {
                changes.back(batch);
                match &*answer?.word {
                    "epoch" => Ok(Telling::Elsewhere),
                    "full" => {
                        tracing::error!("the fleet's store has no room for further changes");
                        Ok(Telling::Done)
                    }
                    _ => Err(Fault::Strange),
                }
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
