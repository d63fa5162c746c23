//! The destination guard: where a call may go that goes to no configured upstream.
//!
//! In: a host and port as the agent spells them. Out: addresses that were checked, to be dialled as
//! they are. A name is resolved once, after the decision; if one of its addresses may not be dialled
//! none is, because a name that points inside today and outside tomorrow is an attack (DNS
//! rebinding), and the choice between them is the attacker's.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::time::{Instant, timeout_at};

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// A range that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a range of addresses: `10.0.0.0/8`, `fd00::/8` or one address")]
pub struct BadNetwork;

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            bits,
        }
    }

    const fn v6(head: [u16; 3], bits: u8) -> Self {
        Self {
            base: IpAddr::V6(Ipv6Addr::new(head[0], head[1], head[2], 0, 0, 0, 0, 0)),
            bits,
        }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let apart = base.to_bits() ^ address.to_bits();
                apart.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let apart = base.to_bits() ^ address.to_bits();
                apart.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| BadNetwork)?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| BadNetwork)?
            }
            Some(_) => return Err(BadNetwork),
            None => most,
        };
        if bits > most {
            return Err(BadNetwork);
        }
        Ok(Self { base, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// What is not on the public network, or belongs to nobody (IANA's special-purpose registries,
/// RFC 6890 and what updates it).
const NOT_PUBLIC: &[Network] = &[
    Network::v4(0, 0, 0, 0, 8),
    Network::v4(10, 0, 0, 0, 8),
    Network::v4(100, 64, 0, 0, 10),
    Network::v4(127, 0, 0, 0, 8),
    Network::v4(169, 254, 0, 0, 16),
    Network::v4(172, 16, 0, 0, 12),
    Network::v4(192, 0, 0, 0, 24),
    Network::v4(192, 0, 2, 0, 24),
    Network::v4(192, 88, 99, 0, 24),
    Network::v4(192, 168, 0, 0, 16),
    Network::v4(198, 18, 0, 0, 15),
    Network::v4(198, 51, 100, 0, 24),
    Network::v4(203, 0, 113, 0, 24),
    Network::v4(224, 0, 0, 0, 4),
    Network::v4(240, 0, 0, 0, 4),
    Network::v6([0x100, 0, 0], 64),
    Network::v6([0x2001, 0xdb8, 0], 32),
    Network::v6([0x3fff, 0, 0], 20),
    Network::v6([0x5f00, 0, 0], 16),
    Network::v6([0xfc00, 0, 0], 7),
    Network::v6([0xfe80, 0, 0], 10),
    Network::v6([0xfec0, 0, 0], 10),
    Network::v6([0xff00, 0, 0], 8),
];

/// Other spellings of IPv4 addresses, and of nothing: never dialled, whatever is allowed.
/// Unspecified, loopback, mapped and compatible addresses are all in the first.
const DISGUISES: &[Network] = &[
    Network::v6([0, 0, 0], 64),
    // NAT64 (RFC 6052, RFC 8215).
    Network::v6([0x64, 0xff9b, 0], 96),
    Network::v6([0x64, 0xff9b, 1], 48),
    // Teredo, ORCHID and the rest of the protocol assignments (RFC 2928).
    Network::v6([0x2001, 0, 0], 23),
    // 6to4 (RFC 3056).
    Network::v6([0x2002, 0, 0], 16),
];

/// What the IPv6 network is at all: global unicast (RFC 4291 §2.4).
const GLOBAL: Network = Network::v6([0x2000, 0, 0], 3);

/// A host and port that can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: Spelled,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Spelled {
    Name(Box<str>),
    Address(IpAddr),
}

/// A host that can be read in more than one way, or names this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host is not spelled in the one way that is served")]
pub struct BadDestination;

impl Destination {
    /// Reads a host: a DNS name, four decimal numbers with dots, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`BadDestination`].
    pub fn read(host: &str, port: u16) -> Result<Self, BadDestination> {
        let host = if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(BadDestination)?;
            // The parser takes no zone.
            let address: Ipv6Addr = inner.parse().map_err(|_| BadDestination)?;
            Spelled::Address(address.into())
        } else if let Ok(address) = host.parse::<Ipv4Addr>() {
            // The parser takes neither other bases nor leading zeros nor fewer parts.
            Spelled::Address(address.into())
        } else {
            Spelled::Name(name(host)?)
        };
        if port == 0 {
            return Err(BadDestination);
        }
        Ok(Self { host, port })
    }
}

/// A DNS name whose last label is no number, which resolvers would read as an address.
fn name(host: &str) -> Result<Box<str>, BadDestination> {
    let label = |label: &str| {
        let ends = |at: Option<char>| at.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        label.len() <= 63
            && ends(label.chars().next())
            && ends(label.chars().next_back())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let host = host.to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    let local = last == "localhost" || last == "localdomain";
    if host.len() > 253 || number || local || !host.split('.').all(label) {
        return Err(BadDestination);
    }
    Ok(host.into())
}

/// What may be dialled.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Vec<Network>,
    ours: Vec<SocketAddr>,
}

/// Why a destination is not dialled.
#[derive(Debug, thiserror::Error)]
pub enum Unguarded {
    /// An address that may not be dialled.
    #[error("an address of the destination may not be dialled")]
    Forbidden,
    /// The name was not resolved.
    #[error("the name cannot be resolved")]
    Unresolved(#[source] std::io::Error),
    /// The name was not resolved in time.
    #[error("the name was not resolved in time")]
    Timeout,
}

impl Guard {
    /// Lets pass what is public, and `allowed` beside that; never `ours`, where we listen.
    pub fn new(allowed: Vec<Network>, ours: Vec<SocketAddr>) -> Self {
        Self { allowed, ours }
    }

    /// The addresses of a destination, all of which may be dialled.
    ///
    /// # Errors
    /// [`Unguarded`].
    pub async fn resolve(
        &self,
        destination: &Destination,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Unguarded> {
        let port = destination.port;
        let found: Vec<SocketAddr> = match &destination.host {
            Spelled::Address(address) => vec![SocketAddr::new(*address, port)],
            Spelled::Name(name) => timeout_at(deadline, tokio::net::lookup_host((&**name, port)))
                .await
                .map_err(|_| Unguarded::Timeout)?
                .map_err(Unguarded::Unresolved)?
                .collect(),
        };
        if found.is_empty() || found.iter().any(|address| !self.admits(*address)) {
            return Err(Unguarded::Forbidden);
        }
        Ok(found)
    }

    /// Whether an address may be dialled.
    pub fn admits(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(ip));
        let allowed = within(&self.allowed);
        // The loopback address of IPv6 is spelled in one way, unlike the rest of its block.
        let disguised = within(DISGUISES) && !(ip == Ipv6Addr::LOCALHOST && allowed);
        if disguised || ip.is_unspecified() || ip.is_multicast() || self.is_ours(address) {
            return false;
        }
        let public = !within(NOT_PUBLIC) && (ip.is_ipv4() || GLOBAL.contains(ip));
        public || allowed
    }

    /// Whether we listen there ourselves; where we listen on every address, this machine's are ours.
    fn is_ours(&self, address: SocketAddr) -> bool {
        self.ours.iter().any(|ours| {
            let same = ours.ip() == address.ip();
            let every = ours.ip().is_unspecified();
            ours.port() == address.port() && (same || every)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
