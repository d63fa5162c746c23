//! Which of the named schemas anything but a response refers to.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::At;

/// Where named schemas stand.
const SCHEMAS: &str = "#/components/schemas/";

/// The references of a description between its named schemas, and to them.
#[derive(Debug, Default)]
pub(super) struct Reach {
    roots: HashSet<String>,
    edges: HashMap<String, HashSet<String>>,
    /// Something refers in a way that is not followed here: everything may be needed.
    open: bool,
}

impl Reach {
    /// Goes through a JSON text and keeps nothing else of it.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut reach = Self::default();
        let scan = Scan {
            reach: &mut reach,
            at: At::Root,
            owner: None,
            is_reference: false,
        };
        scan.deserialize(&mut serde_json::Deserializer::from_slice(bytes))?;
        Ok(reach)
    }

    /// The names that are needed; `None` where that cannot be told.
    pub(super) fn wanted(mut self) -> Option<HashSet<String>> {
        if self.open {
            return None;
        }
        let mut waiting: Vec<String> = self.roots.iter().cloned().collect();
        while let Some(name) = waiting.pop() {
            for next in self.edges.remove(&name).unwrap_or_default() {
                if self.roots.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        Some(self.roots)
    }

    fn refer(&mut self, reference: &str, owner: Option<&str>) {
        let Some(rest) = reference.strip_prefix(SCHEMAS) else {
            self.open |=
                !reference.starts_with("#/components/") && !reference.starts_with("#/paths/");
            return;
        };
        let name = rest.split('/').next().unwrap_or_default();
        self.open |= name.contains(['%', '~']);
        let from = match owner {
            Some(owner) => self.edges.entry(owner.to_owned()).or_default(),
            None => &mut self.roots,
        };
        from.insert(name.to_owned());
    }
}

/// One value.
struct Scan<'a> {
    reach: &'a mut Reach,
    at: At,
    /// The named schema it is part of.
    owner: Option<&'a str>,
    /// It is the value of a `$ref`.
    is_reference: bool,
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.is_reference {
            self.reach.refer(text, self.owner);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut next = true;
        while next {
            let item = Scan {
                reach: &mut *self.reach,
                at: At::Elsewhere,
                owner: self.owner,
                is_reference: false,
            };
            next = items.next_element_seed(item)?.is_some();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            if self.at == At::Webhooks || self.at.drops(&key) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            members.next_value_seed(Scan {
                reach: &mut *self.reach,
                at: self.at.below(&key),
                owner: if self.at == At::Schemas {
                    Some(&key)
                } else {
                    self.owner
                },
                is_reference: key == "$ref",
            })?;
        }
        Ok(())
    }
}
