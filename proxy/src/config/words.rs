//! Words of the configuration of which some are not served yet.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    listen::{Mode, tls},
    protocol::{self, PROTOCOLS, Row},
};

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

/// How agents reach a listener.
pub(super) fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word == "stdio" {
        return Err(de::Error::custom(
            "`stdio` is no listener: start the server with `outrider stdio --service NAME -- COMMAND`",
        ));
    }
    [Mode::Reverse, Mode::Forward, Mode::Transparent]
        .into_iter()
        .find(|mode| mode.as_str() == word)
        .ok_or_else(|| de::Error::custom("expected `reverse`, `forward` or `transparent`"))
}

/// `listeners[].tls`.
#[derive(Debug)]
pub enum ListenerTls {
    /// On a reverse listener: what it proves itself by.
    Identity(tls::Config),
    /// On a forward or transparent one: what it does about TLS to somebody else.
    Of(TlsWord),
}

/// What is done about TLS to somebody else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsWord {
    /// It is refused.
    #[default]
    Refuse,
    /// What services of `protocol: tunnel` name passes unread.
    Tunnel,
    /// The calls inside are decided, too.
    Intercept,
}

impl TlsWord {
    const ALL: [Self; 3] = [Self::Refuse, Self::Tunnel, Self::Intercept];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Tunnel => "tunnel",
            Self::Intercept => "intercept",
        }
    }
}

impl<'de> Deserialize<'de> for ListenerTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ListenerTls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`{certificate: PATH, key: PATH}` on a reverse listener, else `intercept`, `tunnel` or `refuse`",
                )
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ListenerTls, E> {
                let known = TlsWord::ALL.into_iter().find(|one| one.as_str() == word);
                known.map(ListenerTls::Of).ok_or_else(|| {
                    E::custom("expected `intercept`, `tunnel`, `refuse` or `{certificate: PATH, key: PATH}`")
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenerTls, A::Error> {
                tls::Config::deserialize(MapAccessDeserializer::new(map)).map(ListenerTls::Identity)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `services[].http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpWord {
    /// 1.1.
    One,
    /// 2, over TLS by ALPN, else by prior knowledge.
    Two,
}

impl<'de> Deserialize<'de> for HttpWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Number(f64),
            Text(String),
        }
        let text = match Said::deserialize(deserializer)? {
            Said::Number(number) => number.to_string(),
            Said::Text(text) => text,
        };
        match &*text {
            "1.1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            _ => Err(de::Error::custom("expected `1.1` or `2`")),
        }
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
    Enforce: "enforce", later ["shadow"];
}
