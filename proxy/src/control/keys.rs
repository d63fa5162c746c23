//! The keys that sign assertions: shown, and replaced one by the other.

use jiff::Timestamp;

use super::{
    Control,
    judge::plain,
    refused,
    wire::{Fault, Keys, Refusal, Reply},
};

impl Control {
    /// The public keys.
    pub(super) fn shown(&self, now: Timestamp) -> Result<Reply, Refusal> {
        let jwks = serde_json::from_str(&self.keys.jwks(now));
        Ok(Reply::Keys(Keys {
            kid: self.keys.kid(),
            jwks: jwks.map_err(|_| refused(Fault::Unavailable, "the keys cannot be shown"))?,
        }))
    }

    /// Lets the next key sign, once that is noted.
    pub(super) fn rotate(
        &self,
        uid: u32,
        why: Option<&str>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        if let Some(why) = why {
            plain("reason", why)?;
        }
        let next = self.keys.next();
        let next = next.map_err(|why| refused(Fault::Unavailable, why))?;
        let by = format!("uid:{uid}");
        let noted = self
            .observer
            .rotated(&by, &self.keys.kid(), next.kid(), why);
        if let Err(error) = noted {
            tracing::error!(%error, "the key was not replaced because that could not be noted");
            let text = "the security log cannot be written: the key stays";
            return Err(refused(Fault::Unrecorded, text));
        }
        self.keys.replace(next, now);
        self.shown(now)
    }
}
