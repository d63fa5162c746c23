//! What runtimes are pointed at: a server that only this run knows, and a way to its sidecar's proxy
//! on which is seen who comes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

use super::runtime::PACKAGE;
use crate::tag::DECISION_ID;

/// The server.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// What only its answers say; it has the form of a version.
    pub(super) marker: String,
    /// Who came, by the first part of the path, and under which decisions.
    came: RefCell<HashMap<String, Vec<Option<String>>>>,
}

impl Target {
    /// Serves on loopback as long as the local tasks run.
    pub(super) async fn start() -> anyhow::Result<Rc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let random = uuid::Uuid::new_v4().as_u128();
        let target = Rc::new(Self {
            address: listener.local_addr()?,
            marker: format!("7.{}.{}", random % 1_000_003, (random >> 64) % 1_000_003),
            came: RefCell::default(),
        });
        let serving = Rc::clone(&target);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let target = Rc::clone(&serving);
                spawn_local(async move {
                    let answer = service_fn(|request: Request<Incoming>| {
                        let answer = target.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A runtime that goes away has been seen.
                    http.await.ok();
                });
            }
        });
        Ok(target)
    }

    /// The decisions under which a call came, and whether one came without.
    pub(super) fn seen(&self, call: &str) -> (Vec<String>, bool) {
        let came = self.came.borrow();
        let came = came.get(call).map(Vec::as_slice).unwrap_or_default();
        let direct = came.iter().any(Option::is_none);
        (came.iter().flatten().cloned().collect(), direct)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().trim_start_matches('/');
        let (call, below) = path.split_once('/').unwrap_or((path, ""));
        let decision = request.headers().get(DECISION_ID);
        let decision = decision.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let mut came = self.came.borrow_mut();
        came.entry(call.to_owned()).or_default().push(decision);
        let marker = &self.marker;
        let (kind, body) = match below {
            "page" => ("text/plain", format!("{marker}\n")),
            "repository.git/info/refs" => (
                "application/x-git-upload-pack-advertisement",
                format!(
                    "{}0000{}0000",
                    packet("# service=git-upload-pack\n"),
                    packet(&format!("{} refs/heads/{marker}\0\n", "1".repeat(40)))
                ),
            ),
            below if below.trim_end_matches('/') == format!("simple/{PACKAGE}") => {
                let file = format!("{}-{marker}-py3-none-any.whl", PACKAGE.replace('-', "_"));
                ("text/html", format!("<a href=\"{file}\">{file}</a>"))
            }
            PACKAGE => {
                let known = serde_json::json!({
                    "name": PACKAGE,
                    "dist-tags": {"latest": marker},
                    "versions": {marker: {"name": PACKAGE, "version": marker, "dist": {}}},
                });
                ("application/json", known.to_string())
            }
            _ => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
        };
        let mut response = Response::new(Full::from(body));
        let kind = http::HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A line as git frames it.
fn packet(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

/// The way to a proxy.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) address: SocketAddr,
    came: Rc<Cell<bool>>,
}

impl Way {
    /// Leads there as long as the local tasks run.
    pub(super) async fn to(proxy: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let way = Self {
            address: listener.local_addr()?,
            came: Rc::default(),
        };
        let came = Rc::clone(&way.came);
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                came.set(true);
                spawn_local(async move {
                    if let Ok(mut proxy) = TcpStream::connect(proxy).await {
                        // However it ends, it is over for both.
                        copy_bidirectional(&mut stream, &mut proxy).await.ok();
                    }
                });
            }
        });
        Ok(way)
    }

    /// Whether somebody came.
    pub(super) fn came(&self) -> bool {
        self.came.get()
    }
}
