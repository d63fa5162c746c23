//! Who is calling and on what authority. Nothing the agent says about itself is believed.

pub mod agent;
pub mod issuers;
mod peer;
mod spiffe;
mod strip;
mod task;
mod token_file;

pub use peer::{Peers, Stranger, tcp_peer, unix_peer};
pub use strip::strip;
pub use task::{Proof, Required, Unproven, holder, presented, proxied, task};
