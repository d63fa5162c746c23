//! `control:`, and who is served.

use std::{fmt, path::PathBuf};

use serde::de;

/// `control:`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the socket is.
    pub socket: PathBuf,
    /// The group that may connect as well; without one only the sidecar's own user and root may.
    #[serde(default)]
    pub group: Option<Group>,
    /// The users who are served besides root and the sidecar's own. Unless they are root they
    /// also need `group` to reach the socket.
    #[serde(default)]
    pub allow: Vec<u32>,
}

/// A group by its number or its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Group {
    /// Its number.
    Id(u32),
    /// Its name in `/etc/group`.
    Name(String),
}

impl<'de> de::Deserialize<'de> for Group {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GroupVisitor)
    }
}

struct GroupVisitor;

impl de::Visitor<'_> for GroupVisitor {
    type Value = Group;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or number of a group")
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Group, E> {
        let id =
            u32::try_from(id).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))?;
        Ok(Group::Id(id))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Group, E> {
        let id =
            u32::try_from(id).map_err(|_| E::invalid_value(de::Unexpected::Signed(id), &self))?;
        Ok(Group::Id(id))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Group, E> {
        if name.is_empty() || name.contains([':', '\n']) {
            return Err(E::invalid_value(de::Unexpected::Str(name), &self));
        }
        Ok(name
            .parse()
            .map_or_else(|_| Group::Name(name.to_owned()), Group::Id))
    }
}

/// Who may use the control socket.
#[derive(Clone, Debug)]
pub struct Access {
    /// The sidecar's own user.
    pub own: u32,
    /// `control.allow`.
    pub allow: Vec<u32>,
    /// Every user of any `listeners[].peers`: the agents.
    pub peers: Vec<u32>,
}

impl Access {
    /// Whether this user is served. An agent never is, whoever else it may be.
    pub fn admits(&self, uid: u32) -> bool {
        let trusted = uid == 0 || uid == self.own || self.allow.contains(&uid);
        trusted && !self.peers.contains(&uid)
    }

    /// Whether a sidecar of this user may take everything over from us, or leave it to us: whoever
    /// can read our memory already, and no agent.
    pub fn admits_sidecar(&self, uid: u32) -> bool {
        (uid == 0 || uid == self.own) && !self.peers.contains(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_listed_users_are_served_and_nobody_else() {
        let access = Access {
            own: 500,
            allow: vec![1000],
            peers: vec![2000],
        };
        for (uid, served) in [
            (0, true),
            (500, true),
            (1000, true),
            (1001, false),
            (2000, false),
        ] {
            assert_eq!(access.admits(uid), served, "{uid}");
            assert_eq!(access.admits_sidecar(uid), served && uid != 1000, "{uid}");
        }
    }

    #[test]
    fn an_agents_user_is_never_served_whoever_else_it_may_be() {
        let access = Access {
            own: 500,
            allow: vec![1000],
            peers: vec![0, 500, 1000],
        };
        let served = |uid| access.admits(uid) || access.admits_sidecar(uid);
        assert!(![0, 500, 1000].into_iter().any(served));
    }

    #[test]
    fn a_group_is_a_name_or_a_number() {
        let group = |json: &str| serde_json::from_str::<Group>(json).ok();
        assert_eq!(group("1000"), Some(Group::Id(1000)));
        assert_eq!(group("\"1000\""), Some(Group::Id(1000)));
        assert_eq!(group("\"ops\""), Some(Group::Name("ops".into())));
        for bad in ["-1", "4294967296", "\"\"", "\"a:b\"", "true", "[]", "1.5"] {
            assert_eq!(group(bad), None, "{bad}");
        }
    }
}
