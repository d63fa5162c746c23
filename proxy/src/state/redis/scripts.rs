//! What runs in the store, and how it is called: by its digest, and by its text where the store does
//! not know it.

use ::redis::{
    Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection, cmd,
};
use std::sync::Arc;

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Join,
    Admit,
    Spend,
    Remind,
    Poll,
    Tell,
    Seen,
}

impl Script {
    pub(super) const ALL: [Self; 7] = [
        Self::Join,
        Self::Admit,
        Self::Spend,
        Self::Remind,
        Self::Poll,
        Self::Tell,
        Self::Seen,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Join => include_str!("scripts/join.lua"),
            Self::Admit => include_str!("scripts/admit.lua"),
            Self::Spend => include_str!("scripts/spend.lua"),
            Self::Remind => include_str!("scripts/remind.lua"),
            Self::Poll => include_str!("scripts/poll.lua"),
            Self::Tell => include_str!("scripts/tell.lua"),
            Self::Seen => include_str!("scripts/seen.lua"),
        }
    }
}

/// Keys and arguments of a script.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Vec<u8>>,
}

impl Words {
    pub(super) fn key(&mut self, key: String) {
        self.keys.push(key);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.arguments.push(text.as_bytes().to_vec());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }
}

/// The digests under which the store knows the scripts.
#[derive(Clone, Debug)]
pub(super) struct Digests(Arc<[String]>);

impl Digests {
    /// Gives the store every script.
    pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let mut digests = Vec::new();
        for script in Script::ALL {
            let load = Cmd::new()
                .arg("SCRIPT")
                .arg("LOAD")
                .arg(script.text())
                .to_owned();
            match send(connection, &load).await? {
                Value::BulkString(digest) => {
                    digests.push(String::from_utf8_lossy(&digest).into_owned());
                }
                Value::SimpleString(digest) => digests.push(digest),
                _ => return Err((ErrorKind::UnexpectedReturnType, "no digest").into()),
            }
        }
        Ok(Self(digests.into()))
    }

    /// Runs one.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        script: Script,
        words: &Words,
    ) -> Result<Value, RedisError> {
        let digest = self.0.get(script as usize).map_or("", String::as_str);
        let call = |how: &str, what: &str| {
            let mut call = cmd(how);
            call.arg(what).arg(words.keys.len()).arg(&words.keys);
            for argument in &words.arguments {
                call.arg(argument.as_slice());
            }
            call
        };
        match send(connection, &call("EVALSHA", digest)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                send(connection, &call("EVAL", script.text())).await
            }
            answer => answer,
        }
    }
}

/// Sends a command; an error that the store answers with is one.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, RedisError> {
    match connection.send_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// What a script answered: a word, the store's time, and what follows.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) word: String,
    pub(super) now: u64,
    pub(super) rest: Vec<Value>,
}

impl Answer {
    /// Reads an answer; nothing else than such a one is taken.
    pub(super) fn read(value: Value) -> Option<Self> {
        let Value::Array(values) = value else {
            return None;
        };
        let mut values = values.into_iter();
        let word = text(&values.next()?)?;
        let now = number(&values.next()?)?;
        Some(Self {
            word,
            now,
            rest: values.collect(),
        })
    }

    /// What follows, where it is numbers.
    pub(super) fn numbers(&self) -> Option<Vec<u64>> {
        self.rest.iter().map(number).collect()
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
