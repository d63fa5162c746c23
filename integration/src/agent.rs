//! An agent: it makes calls over keep-alive connections of its own.

use serde_json::Value;

use crate::{Address, Answer, Connection, Request};

/// An agent bound to one address, one path and, if it has one, one task token.
#[derive(Debug)]
pub struct Agent {
    address: Address,
    path: String,
    token: Option<String>,
    connection: Option<Connection>,
}

impl Agent {
    /// An agent without a task.
    pub fn new(address: Address, path: &str) -> Self {
        Self {
            address,
            path: path.to_owned(),
            token: None,
            connection: None,
        }
    }

    /// The same with a task token, sent as `Outrider-Task-Token` on each request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Calls a tool and reads the whole answer.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Answer {
        self.send(&Request::call(tool, arguments))
    }

    /// Sends a request over the kept connection, a new one if it was closed, and reads the whole
    /// answer.
    ///
    /// # Panics
    /// When no answer came.
    pub fn send(&mut self, request: &Request) -> Answer {
        let bytes = self.bytes(request);
        let kept = self.connection.take();
        let again = kept.and_then(|connection| exchange(connection, &bytes));
        let (answer, connection) = again.unwrap_or_else(|| {
            let fresh = self.connect();
            exchange(fresh, &bytes).expect("an answer to a request on a new connection")
        });
        let close = answer
            .head
            .get("connection")
            .is_some_and(|c| c.eq_ignore_ascii_case("close"));
        self.connection = (answer.complete && !close).then_some(connection);
        answer
    }

    /// Sends a request over a connection of its own and hands that over, for answers read piece by
    /// piece and for hanging up.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn start(&self, request: &Request) -> Connection {
        let mut connection = self.connect();
        connection
            .send(&self.bytes(request))
            .expect("somebody who reads");
        connection
    }

    /// Where it connects.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// A new connection to the same address.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(&self) -> Connection {
        Connection::open(&self.address).expect("a listener")
    }

    /// The request's bytes as this agent sends them.
    pub fn bytes(&self, request: &Request) -> Vec<u8> {
        let request = match &self.token {
            Some(token) => request.clone().field("Outrider-Task-Token", token),
            None => request.clone(),
        };
        request.bytes(&self.address.host(), &self.path)
    }
}

fn exchange(mut connection: Connection, bytes: &[u8]) -> Option<(Answer, Connection)> {
    connection.send(bytes).ok()?;
    let answer = connection.answer().ok()??;
    Some((answer, connection))
}
