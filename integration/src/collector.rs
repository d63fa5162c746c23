//! A place where telemetry is sent by HTTP: it keeps what came and answers what it is told.

use std::{
    fmt,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
};

use flate2::read::GzDecoder;

use crate::{Connection, Head};

/// A message that came.
#[derive(Debug, Clone)]
pub struct Message {
    /// The request's head.
    pub head: Head,
    /// The path.
    pub path: String,
    /// The body, unpacked.
    pub body: Vec<u8>,
}

/// The server; it ends with this value.
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    status: AtomicU16,
    over: AtomicBool,
    messages: Mutex<Vec<Message>>,
    refused: Mutex<Vec<Message>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a collector at {}", self.address)
    }
}

impl Collector {
    /// Listens and takes everything.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        shared.status.store(200, Ordering::SeqCst);
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || {
                    let connection = Connection::accepted(stream).expect("a connection");
                    serving.serve(connection);
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers with that status; what is not a success it does not take.
    pub fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// What it took for that path.
    pub fn taken(&self, path: &str) -> Vec<Message> {
        of(&self.shared.messages, path)
    }

    /// What it did not take for that path.
    pub fn refused(&self, path: &str) -> Vec<Message> {
        of(&self.shared.refused, path)
    }
}

fn of(messages: &Mutex<Vec<Message>>, path: &str) -> Vec<Message> {
    let messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = messages.iter().filter(|message| message.path == path);
    wanted.cloned().collect()
}

impl Shared {
    fn serve(&self, mut connection: Connection) {
        while let Ok(Some(head)) = connection.request() {
            let (mut body, whole) = connection.rest();
            assert!(whole, "a message broke off");
            if head.get("content-encoding") == Some("gzip") {
                let mut unpacked = Vec::new();
                GzDecoder::new(&*body)
                    .read_to_end(&mut unpacked)
                    .expect("gzip");
                body = unpacked;
            }
            let path = head.line.split(' ').nth(1).unwrap_or_default().to_owned();
            let message = Message { head, path, body };
            let status = self.status.load(Ordering::SeqCst);
            let kept = if status < 300 {
                &self.messages
            } else {
                &self.refused
            };
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(message);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            if connection.send(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection is woken.
        std::net::TcpStream::connect(self.address).ok();
    }
}
