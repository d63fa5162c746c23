//! A WebSocket: one call, `service/WEBSOCKET`, decided by its opening handshake; what is said on it
//! passes unread.

use std::{sync::Arc, time::Instant};

use super::{
    Pipeline,
    case::{Errand, Said},
    refusal,
    relay::Relayed,
};
use crate::{
    listen::{Onward, Replay, Reply},
    record::{Entry, Permit},
    rejection::Rejection,
    respond::{self, Accepted, Answer},
    upstream::{self, Stream, Upgraded},
};

/// What a service makes of a permitted handshake.
enum Opened {
    /// It agrees.
    Open(http::Response<()>, Replay<Stream>),
    /// It answers something else.
    Declined(Box<Accepted>),
}

impl Pipeline {
    /// Opens a permitted WebSocket, or answers as the service did.
    pub(super) async fn upgrade(
        &self,
        permit: Permit,
        errand: Box<Errand>,
        mut entry: Box<Entry>,
        said: Said,
    ) -> Reply<Answer> {
        let tether = errand.expected.tether.clone();
        let service = Arc::clone(&errand.service);
        let started = Instant::now();
        let opened = tokio::select! {
            biased;
            why = tether.clone().severed() => Err(respond::over(why)),
            opened = self.open_websocket(permit, errand) => opened,
        };
        entry.timers.upstream = started.elapsed();
        match opened {
            Ok(Opened::Open(head, stream)) => {
                entry.answered.status = head.status().as_u16();
                let response = respond::switched(head, &service, entry.id());
                let relayed = Relayed::new(entry, tether, service.stream_idle);
                Reply {
                    response,
                    onward: Some(Onward::Relay(Box::new(move |agent| {
                        Box::pin(relayed.run(agent, stream))
                    }))),
                }
            }
            Ok(Opened::Declined(accepted)) => {
                respond::answer(*accepted, entry, &self.streams).into()
            }
            Err(rejection) => refusal(entry, &said, &rejection).into(),
        }
    }

    async fn open_websocket(
        &self,
        permit: Permit,
        errand: Box<Errand>,
    ) -> Result<Opened, Rejection> {
        let Errand {
            mut request,
            service,
            upstream,
            expected,
            wanted,
            way: _,
        } = *errand;
        let carried = self.provide(wanted, &service, &mut request).await?;
        let upgraded = upstream::upgrade(permit, &self.pool, &upstream, request, service.timeout);
        match upgraded.await? {
            Upgraded::Open(head, stream) => Ok(Opened::Open(head, stream)),
            Upgraded::Declined(answer) => {
                if let Some(carried) = carried {
                    carried.answered(answer.status());
                }
                let accepted = respond::receive(answer, expected).await?;
                Ok(Opened::Declined(Box::new(accepted)))
            }
        }
    }
}
