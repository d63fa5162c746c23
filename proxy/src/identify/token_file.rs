//! A projected service-account token as the agent's identity: a file that somebody else renews.
//!
//! A path, the issuer's keys and what the token must say come in; the agent is proved until the token
//! expires. The file is looked at four times a second, so that a renewed one counts at once, and the
//! token is judged anew when the issuer's keys change.

use std::{
    fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration,
    time::SystemTime,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::{MissedTickBehavior, interval};

use super::agent::{Identity, TokenFile, Told};
use crate::jose::{BadToken, Jws, KeySet, Source, Typ};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between two verdicts on a token that was refused: it may not be good yet.
const ANOTHER_CHANCE: u32 = 20;
/// Bytes of the file.
const LARGEST: u64 = 64 * 1024;

/// Keeps `identity` proved by the token. Runs for ever.
pub(super) async fn keep(identity: Arc<Identity>, file: TokenFile, keys: Source, told: Told) {
    let watch = Watch {
        identity,
        file,
        keys,
        told,
    };
    tokio::join!(watch.keys.run(), watch.look());
}

struct Watch {
    identity: Arc<Identity>,
    file: TokenFile,
    keys: Source,
    told: Told,
}

/// What a verdict was on: how the file looked, and the keys.
#[derive(Default)]
struct Seen {
    file: Option<(SystemTime, u64, u64)>,
    keys: Option<Arc<KeySet>>,
}

/// A token that does not prove the agent. The texts repeat nothing of it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("its file cannot be read")]
    Unreadable,
    #[error("no current keys of its issuer are known")]
    Keyless,
    #[error(transparent)]
    Bad(#[from] BadToken),
    #[error("`identity.map` does not make its subject this agent")]
    Subject,
}

impl Watch {
    async fn look(&self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judged: Option<Seen> = None;
        // Looks until a verdict is given again though nothing has changed.
        let mut again: Option<u32> = None;
        loop {
            ticks.tick().await;
            let now = self.seen();
            let same = judged.as_ref().is_some_and(|judged| judged.is(&now));
            again = again.map(|looks| looks.saturating_sub(1));
            if same && again != Some(0) {
                continue;
            }
            match self.judge().await {
                Ok(until) => {
                    again = None;
                    self.identity.prove(until, None, &self.told);
                }
                // It may still be written to: the next look tells.
                Err(_) if !same => again = Some(1),
                Err(refused) => {
                    again = Some(ANOTHER_CHANCE);
                    let why = format!("the token of `identity.token` is refused: {refused}");
                    self.identity.deny(&why, &self.told);
                }
            }
            judged = Some(now);
        }
    }

    fn seen(&self) -> Seen {
        let look = |file: fs::Metadata| Some((file.modified().ok()?, file.len(), file.ino()));
        Seen {
            file: fs::metadata(&self.file.token).ok().and_then(look),
            keys: self.keys.keys().ok(),
        }
    }

    /// Until when the token proves the agent.
    async fn judge(&self) -> Result<Timestamp, Refused> {
        let token = read(&self.file.token).ok_or(Refused::Unreadable)?;
        let token = token.expose_secret().trim_ascii();
        match self.verified(token) {
            Err(Refused::Bad(BadToken::UnknownKey) | Refused::Keyless) => {
                self.keys.look_again().await;
                self.verified(token)
            }
            verdict => verdict,
        }
    }

    fn verified(&self, token: &[u8]) -> Result<Timestamp, Refused> {
        let keys = self.keys.keys().map_err(|_| Refused::Keyless)?;
        let (claims, _) = Jws::read(token)?.verify(Typ::Plain, &keys)?;
        claims.is_from(&self.file.issuer)?;
        claims.is_for(&self.file.audience)?;
        let until = claims.expiry(Timestamp::now())?;
        let subject = claims.text("sub")?;
        if self.file.subjects.iter().any(|known| known == subject) {
            Ok(until)
        } else {
            Err(Refused::Subject)
        }
    }
}

impl Seen {
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.keys, &other.keys) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.file == other.file
    }
}

fn read(file: &Path) -> Option<SecretSlice<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(file).ok()?;
    let read = file.take(LARGEST).read_to_end(&mut bytes).ok();
    let token = SecretSlice::from(bytes);
    read.map(|_| token)
}
