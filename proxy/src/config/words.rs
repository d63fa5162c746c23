//! Words of the configuration of which some are not served yet.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};

use crate::protocol::{self, PROTOCOLS, Row};

/// A key that this build does not serve: any value but null is refused.
#[derive(Debug)]
pub struct NotBuilt {
    _none: std::convert::Infallible,
}

impl<'de> Deserialize<'de> for NotBuilt {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("not built yet: leave this key out"))
    }
}

/// A choice with one word that is served and others that will be.
pub trait Word {
    /// The word that is served.
    const SERVED: &'static str;
    /// Words that are known and refused.
    const LATER: &'static [&'static str];
}

/// The word that is served.
pub struct Served<W>(PhantomData<W>);

impl<W> Default for Served<W> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<W: Word> fmt::Debug for Served<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(W::SERVED)
    }
}

impl<'de, W: Word> Deserialize<'de> for Served<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let later = |later: &&str| {
            if later.ends_with(':') {
                word.starts_with(*later)
            } else {
                word == **later
            }
        };
        if word == W::SERVED {
            Ok(Self::default())
        } else if W::LATER.iter().any(later) {
            Err(de::Error::custom(format!(
                "`{word}` is not built yet: use `{}`",
                W::SERVED
            )))
        } else {
            Err(de::Error::custom(format!("expected `{}`", W::SERVED)))
        }
    }
}

/// A protocol that is served.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct ProtocolName(pub &'static Row);

impl fmt::Debug for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl TryFrom<String> for ProtocolName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = || {
            let names: Vec<&str> = PROTOCOLS.iter().map(|row| row.name).collect();
            format!("expected a protocol: {}", names.join(", "))
        };
        protocol::row(&name).map(Self).ok_or_else(known)
    }
}

macro_rules! words {
    ($($name:ident: $served:literal, later $later:expr;)*) => {$(
        #[doc = concat!("`", $served, "`.")]
        #[derive(Debug)]
        pub struct $name;
        impl Word for $name {
            const SERVED: &'static str = $served;
            const LATER: &'static [&'static str] = &$later;
        }
    )*};
}

words! {
    Static: "static", later ["spiffe", "token_file"];
    Reverse: "reverse", later ["forward", "transparent", "stdio"];
    Enforce: "enforce", later ["shadow"];
}
