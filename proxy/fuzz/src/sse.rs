//! Server-sent events: however a stream is cut, and whoever reads it, its events are the same.

use bytes::{Bytes, BytesMut};
use outrider::protocol::sse::{Decoder, Event, Item, Unreadable, encode};

const MAX: usize = 1000;

/// The first byte says how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else {
        return;
    };
    let whole = decode(std::iter::once(stream));
    assert_eq!(decode(stream.chunks(1)), whole, "byte by byte");
    let size = usize::from(seed % 32) + 2;
    assert_eq!(decode(stream.chunks(size)), whole, "in pieces of {size}");
    let Ok(items) = whole else { return };
    assert_eq!(events(&items), by_the_letter(stream), "by the letter");
    let mut written = BytesMut::new();
    events(&items)
        .iter()
        .for_each(|event| encode(event, &mut written));
    // A field gains a space and an event its ends: what just fits need not fit again.
    if written.len() < MAX {
        let again = decode(std::iter::once(&written[..])).expect("what was written is readable");
        assert_eq!(events(&again), events(&items), "written anew");
    }
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Item>, Unreadable> {
    let mut decoder = Decoder::new(MAX);
    let mut items = Vec::new();
    for piece in pieces {
        let mut bytes = Bytes::copy_from_slice(piece);
        while let Some(item) = decoder.push(&mut bytes)? {
            items.push(item);
        }
        assert!(bytes.is_empty(), "bytes are left");
    }
    Ok(items)
}

fn events(items: &[Item]) -> Vec<Event> {
    let event = |item: &Item| match item {
        Item::Event(event) => Some(event.clone()),
        Item::Comment => None,
    };
    items.iter().filter_map(event).collect()
}

/// WHATWG HTML §9.2.6, for a stream that is there as a whole.
fn by_the_letter(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut events, mut lines) = (Vec::new(), Vec::new());
    let mut rest = stream;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let line = &rest[..end];
        let ended = &rest[end..];
        rest = ended.strip_prefix(b"\r\n").unwrap_or(&ended[1..]);
        if !line.is_empty() {
            lines.push(line);
            continue;
        }
        let event = event(&lines);
        lines.clear();
        events.extend(Some(event).filter(|event| *event != Event::default()));
    }
    events
}

fn event(lines: &[&[u8]]) -> Event {
    let mut event = Event::default();
    let mut data: Vec<&[u8]> = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"data" => data.push(value),
            b"event" => event.event = Some(text()).filter(|name| !name.is_empty()),
            b"id" if !value.contains(&0) => event.id = Some(text()),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                event.retry = text().parse().ok();
            }
            _ => {}
        }
    }
    if data.is_empty() {
        event.event = None;
    } else {
        event.data = Some(data.join(&b'\n').into());
    }
    event
}
