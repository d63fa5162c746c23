//! Who is calling and on what authority. Nothing the agent says about itself is believed.

mod jwk;
pub mod jwt;
mod peer;
mod strip;
mod task;

pub use jwk::{BadKeys, KeySet};
pub use peer::{Peers, Stranger, tcp_peer, unix_peer};
pub use strip::strip;
pub use task::{Required, TASK_TOKEN, Unproven, task};
