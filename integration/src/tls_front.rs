//! TLS before a server that speaks none: each connection is proved as the test says, and passed on.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::Made;

/// What shows a certificate, asks for one where it has authorities to prove it by, and passes on.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl TlsFront {
    /// Shows `own` on a port of its own, before `behind`. With `clients`, an authority's certificate in
    /// DER, it takes nobody who does not show one of its certificates.
    ///
    /// # Panics
    /// When it cannot be set up.
    pub fn start(own: &Made, clients: Option<&[u8]>, behind: SocketAddr) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let authority = CertificateDer::from(authority.to_vec());
                roots.add(authority).expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
            None => builder.with_no_client_auth(),
        };
        let chain = vec![CertificateDer::from(own.certificate.clone())];
        let key = PrivateKeyDer::Pkcs8(own.key.clone().into());
        let config = builder.with_single_cert(chain, key).expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let seen = Arc::clone(&shown);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, acceptor, seen, behind) => {}
                }
            });
        });
        Self {
            address,
            shown,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificates that were shown to it, one for each connection that it took; empty where none
    /// was asked for.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        let shown = self.shown.lock();
        shown.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
    behind: SocketAddr,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (acceptor, shown) = (acceptor.clone(), Arc::clone(&shown));
        connections.spawn(async move {
            let Ok(mut session) = acceptor.accept(stream).await else {
                return;
            };
            let leaf = session.get_ref().1.peer_certificates();
            let leaf = leaf.and_then(<[_]>::first).map(|leaf| leaf.to_vec());
            shown
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(leaf.unwrap_or_default());
            let Ok(mut server) = TcpStream::connect(behind).await else {
                return;
            };
            tokio::io::copy_bidirectional(&mut session, &mut server)
                .await
                .ok();
        });
    }
}
