//! The tool server that everything is measured against, in a process of its own: it answers each request with a JSON-RPC
//! result under the request's ID, as cheaply as it can, as one body or as a stream of events.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    load::{Parsed, parse},
    tls,
};

/// How it answers.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Progress events before the result; none: the answer is one JSON body
    #[arg(long, default_value_t = 0)]
    pub(crate) events: usize,
    /// Text added to the result, in bytes
    #[arg(long, default_value_t = 0)]
    pub(crate) padding: usize,
    /// Serves TLS with this certificate
    #[arg(long, requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// And this key
    #[arg(long)]
    pub(crate) key: Option<PathBuf>,
}

impl Options {
    /// As arguments of the command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--events={}", self.events),
            format!("--padding={}", self.padding),
        ];
        let files = [("certificate", &self.certificate), ("key", &self.key)];
        let files = files
            .iter()
            .filter_map(|(name, file)| Some((name, file.as_ref()?)));
        arguments.extend(files.map(|(name, file)| format!("--{name}={}", file.display())));
        arguments
    }
}

/// Serves until it is killed; the first line on standard output is the port.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let files = options.certificate.as_ref().zip(options.key.as_ref());
    let acceptor = files
        .map(|(certificate, key)| tls::acceptor(certificate, key))
        .transpose()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (acceptor, pen) = (acceptor.clone(), Pen::new(options));
            tokio::task::spawn_local(async move {
                match acceptor {
                    None => serve(stream, pen).await,
                    Some(acceptor) => serve(acceptor.accept(stream).await?, pen).await,
                }
            });
        }
    })
}

async fn serve(mut wire: impl AsyncRead + AsyncWrite + Unpin, pen: Pen) -> Result<()> {
    let mut buffer = Vec::with_capacity(16_384);
    loop {
        let Parsed::Whole { head, length, .. } = parse(&buffer)? else {
            if wire.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let id = id_of(buffer.get(head..length).unwrap_or_default());
        for piece in pen.answer(id) {
            wire.write_all(&piece).await?;
            wire.flush().await?;
        }
        buffer.drain(..length);
    }
}

/// The digits of the body's `"id"`.
fn id_of(body: &[u8]) -> &[u8] {
    const KEY: &[u8] = b"\"id\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY);
    let rest = at
        .and_then(|at| body.get(at + KEY.len()..))
        .unwrap_or_default();
    let end = rest
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

const BEGIN: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const MIDDLE: &[u8] = br#","result":{"resultType":"complete","content":[{"type":"text","text":"Ticket SUP-204511 was updated: its status is now pending and its priority 3. The comment was added and is visible to the customer, who is notified by mail. Two actions were carried out: storage-on-call was notified and INC-7719 was linked. The ticket has four tags, export, object-store, timeout and waiting-for-customer, and was last changed a moment ago by the agent of the support team."#;
const END: &[u8] = br#""}]}}"#;
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Writes answers.
#[derive(Debug, Clone)]
struct Pen {
    events: usize,
    padding: Vec<u8>,
}

impl Pen {
    fn new(options: &Options) -> Self {
        Self {
            events: options.events,
            padding: vec![b'.'; options.padding],
        }
    }

    /// The pieces of an answer, each written by itself.
    fn answer(&self, id: &[u8]) -> Vec<Vec<u8>> {
        let result = [BEGIN, id, MIDDLE, &self.padding, END];
        if self.events == 0 {
            let length: usize = result.iter().map(|part| part.len()).sum();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            );
            return vec![[&[head.as_bytes()], &result[..]].concat().concat()];
        }
        let mut pieces = vec![STREAM.to_vec()];
        pieces.extend((1..=self.events).map(|step| event(progress(step).as_bytes())));
        pieces.push(event(&result.concat()));
        pieces.push(b"0\r\n\r\n".to_vec());
        pieces
    }
}

fn progress(step: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{step},"progressToken":1,"message":"Step {step} is done"}}}}"#
    )
}

/// One event as one chunk.
fn event(message: &[u8]) -> Vec<u8> {
    let event = [b"data: ", message, b"\n\n"].concat();
    [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat()
}
