//! Tunnels: one whose inside is looked into is no call but leads to calls; one that passes unread
//! is a call of its own, `service/CONNECT`.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, header::HOST, request::Parts};
use tokio::net::TcpStream;

use super::{
    Pipeline,
    case::{Errand, Said},
    outgoing::{Through, Way},
    refusal,
    relay::Relayed,
};
use crate::{
    identify,
    listen::{
        self, Connection, Greeting, Inside, ListenerFacts, Mode, Named, Onward, Origin, Raw,
        Redirected, Relay, Replay, Reply, Target, Via,
    },
    record::{Entry, Permit},
    rejection::Rejection,
    respond::{self, Answer},
    upstream,
};

/// How long an agent may take to begin TLS in a tunnel.
const GREETING: Duration = Duration::from_secs(5);

/// Refuses a tunnel where the listener passes none.
pub(super) fn admit(listener: &ListenerFacts, target: &Target<'_>) -> Result<(), Rejection> {
    match (&listener.inside, target.named) {
        (Inside::Refuse, Named::Tunnel(_)) => Err(Rejection::DestinationRefused(
            "this listener opens no tunnels: call over `http`",
        )),
        _ => Ok(()),
    }
}

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

impl Pipeline {
    /// Opens a permitted tunnel, or says why there is none.
    pub(super) async fn tunnel(
        &self,
        permit: Permit,
        errand: Box<Errand>,
        mut entry: Box<Entry>,
        said: Said,
    ) -> Reply<Answer> {
        let id = entry.id();
        match self.dig(permit, &errand, &mut entry).await {
            Ok((through, service)) => Reply {
                response: respond::stamped(Response::new(Answer::none()), id),
                onward: Some(Onward::Relay(through_to(through, service, &errand, entry))),
            },
            Err(rejection) => refusal(entry, &said, &rejection).into(),
        }
    }

    /// Decides about a redirected connection whose requests would not be looked into; none where
    /// they are.
    pub(super) async fn passed_on(
        &self,
        connection: &Connection,
        host: &str,
        port: u16,
    ) -> Option<Redirected> {
        let snapshot = self.outrider.snapshot();
        let unread = snapshot.catalogue.through(host, port).is_some();
        if !unread && matches!(connection.listener.inside, Inside::Intercept(_)) {
            return None;
        }
        let mut entry = self.entry(connection);
        let Some(head) = asking(host, port) else {
            // It has no name that could be decided about; its entry says so.
            return Some(Redirected::Refused);
        };
        let (mut said, mut none) = (None, None);
        let request = Request::from_parts(head, &mut none);
        let decided = self.decide(connection, request, &mut entry, &mut said);
        let decided = decided.await;
        connection.decided();
        let Ok((permit, errand)) = decided else {
            return Some(Redirected::Refused);
        };
        match self.dig(permit, &errand, &mut entry).await {
            Ok((through, service)) => {
                let relay = through_to(through, service, &errand, entry);
                Some(Redirected::Relay(relay))
            }
            Err(rejection) => {
                drop(refusal(entry, &said, &rejection));
                Some(Redirected::Refused)
            }
        }
    }

    /// Connects to where a permitted tunnel goes, unless its task ends first.
    async fn dig(
        &self,
        permit: Permit,
        errand: &Errand,
        entry: &mut Entry,
    ) -> Result<(Through, TcpStream), Rejection> {
        let (Way::Tunnel(through), Some(guard)) = (&errand.way, &errand.service.tunnel) else {
            return Err(Rejection::PolicyError);
        };
        let place = (&*through.host, through.port);
        let tether = errand.expected.tether.clone();
        let stream = tokio::select! {
            biased;
            why = tether.severed() => return Err(respond::over(why)),
            stream = upstream::tunnel(permit, guard, place, errand.service.timeout) => stream?,
        };
        entry.answered.status = 200;
        Ok((through.clone(), stream))
    }
}

/// The head of the request that a redirected connection stands for.
fn asking(host: &str, port: u16) -> Option<Parts> {
    let to = format!("{host}:{port}");
    let request = Request::connect(&to).header(HOST, &to).body(()).ok()?;
    Some(request.into_parts().0)
}

/// Relays a tunnel whose TLS is for the host that was decided about.
fn through_to(through: Through, service: TcpStream, errand: &Errand, entry: Box<Entry>) -> Relay {
    let relayed = Relayed::new(
        entry,
        errand.expected.tether.clone(),
        errand.service.stream_idle,
    );
    Box::new(move |mut agent: Raw| {
        Box::pin(async move {
            match listen::greet(&mut agent, GREETING).await {
                Ok((Greeting::Tls(name), ahead))
                    if listen::agrees(name.as_deref(), &through.host) =>
                {
                    relayed.run(Replay::new(ahead, agent), service).await;
                }
                Ok(_) | Err(_) => relayed.refuse(Rejection::DestinationRefused(
                    "what is in the tunnel is not TLS for its host",
                )),
            }
        })
    })
}
