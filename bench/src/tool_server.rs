//! The tool server that everything is measured against, in a process of its own: it answers each
//! request with a JSON-RPC result of about 520 bytes under the request's ID, as cheaply as it can.

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::load::{Parsed, parse};

/// Serves until it is killed; the first line on standard output is the port.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(stream));
        }
    })
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(16_384);
    let mut answer = Vec::with_capacity(1024);
    loop {
        let Parsed::Whole { head, length } = parse(&buffer)? else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let id = id_of(buffer.get(head..length).unwrap_or_default());
        answer.clear();
        write_answer(&mut answer, id);
        stream.write_all(&answer).await?;
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

fn write_answer(answer: &mut Vec<u8>, id: &[u8]) {
    const BEGIN: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
    const END: &[u8] = br#","result":{"resultType":"complete","content":[{"type":"text","text":"Ticket SUP-204511 was updated: its status is now pending and its priority 3. The comment was added and is visible to the customer, who is notified by mail. Two actions were carried out: storage-on-call was notified and INC-7719 was linked. The ticket has four tags, export, object-store, timeout and waiting-for-customer, and was last changed a moment ago by the agent of the support team."}]}}"#;
    let length = BEGIN.len() + id.len() + END.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    answer.extend_from_slice(head.as_bytes());
    answer.extend_from_slice(BEGIN);
    answer.extend_from_slice(id);
    answer.extend_from_slice(END);
}
