//! What renews an identity, on a thread of its own, until it is dropped.

use std::{io, sync::Arc, thread};

use tokio::{runtime::Builder, sync::oneshot, task::LocalSet};

use super::{Identity, Settings, Source, Told};
use crate::{
    identify::{spiffe, token_file},
    jose,
    svid::CurrentSvid,
};

/// Keeps an identity proved; what it does ends with it.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// An identity that nobody can keep.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// No thread could be made.
    #[error("no thread can be made")]
    Thread(#[from] io::Error),
    /// The issuer's keys cannot be read.
    #[error("`jwks`: {0}")]
    Keys(#[from] jose::BadSource),
}

impl Keeper {
    /// Begins to prove `agent` by what `settings` name. SVIDs come into `svid`; `told` hears of each change
    /// before calls see it.
    ///
    /// # Errors
    /// [`Unkept`].
    pub fn start(
        agent: Arc<str>,
        settings: Settings,
        svid: CurrentSvid,
        told: Told,
    ) -> Result<(Arc<Identity>, Self), Unkept> {
        let source = match &settings {
            Settings::Static => Source::Static,
            Settings::Spiffe(..) => Source::Spiffe,
            Settings::TokenFile(_) => Source::TokenFile,
        };
        let (identity, asked) = Identity::new(source, agent, svid);
        let identity = Arc::new(identity);
        let kept = Arc::clone(&identity);
        let none = Self {
            stop: None,
            thread: None,
        };
        let keeper = match settings {
            Settings::Static => none,
            Settings::Spiffe(id, endpoint) => {
                Self::run(move || spiffe::keep(kept, id, endpoint, asked, told))?
            }
            Settings::TokenFile(file) => {
                let keys = jose::Source::open(file.keys.clone())?;
                Self::run(move || token_file::keep(kept, file, keys, told))?
            }
        };
        Ok((identity, keeper))
    }

    fn run<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("outrider-identity".into());
        let thread = thread.spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    // A keeper that is gone means the same.
                    _ = stopped => {}
                    () = work() => {}
                }
            });
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its thread.
            thread.join().ok();
        }
    }
}
