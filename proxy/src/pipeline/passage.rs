//! What is no call but leads to calls: a tunnel whose inside is decided call by call.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, Response, request::Parts};

use super::Pipeline;
use crate::{
    identify,
    listen::{self, Connection, Inside, Mode, Named, Onward, Origin, Reply, Via},
    respond::Answer,
};

/// The answer to a `CONNECT` behind which requests are looked into.
pub(super) fn opened(origin: Rc<Origin>) -> Reply<Answer> {
    Reply {
        response: Response::new(Answer::none()),
        onward: Some(Onward::Inside(origin)),
    }
}

/// What is presented with a request as its task's token: by itself, to the proxy, and with the
/// tunnel that it came through.
pub(super) fn tokens(connection: &Connection, headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut tokens = identify::presented(headers);
    match &connection.via {
        Via::Origin(origin) => tokens.extend(origin.tokens.iter().cloned()),
        Via::Listener if connection.listener.mode == Mode::Forward => {
            tokens.extend(identify::proxied(headers));
        }
        Via::Listener => {}
    }
    tokens
}

impl Pipeline {
    /// What a `CONNECT` is for whose inside is looked into. None for every other request, and for
    /// one that is refused: that is decided, and recorded, as a call.
    pub(super) fn opening(&self, connection: &Connection, head: &Parts) -> Option<Rc<Origin>> {
        if head.method != Method::CONNECT {
            return None;
        }
        let Inside::Intercept(_) = connection.listener.inside else {
            return None;
        };
        let Named::Tunnel(to) = listen::admit(connection, head).ok()?.named else {
            return None;
        };
        self.outrider.admit(connection).ok()?;
        let snapshot = self.outrider.snapshot();
        if !snapshot.catalogue.is_host(to.name, to.port) {
            return None;
        }
        let tokens = tokens(connection, &head.headers);
        Some(Rc::new(Origin::of_tunnel(to.name, to.port, tokens)))
    }
}
