//! Server-sent events, read by the letter and written anew (WHATWG HTML §9.2).
//!
//! Bytes of a stream come in, split anywhere; events go out one at a time, bounded in size.
//! What the standard ignores (unknown fields, malformed ids) is gone when an event is written.

use std::str;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr2;

/// One event, or a block without data that sets the stream's ID or reconnection time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its type; `None` means `message`.
    pub event: Option<String>,
    /// Its data, lines joined by LF, UTF-8; `None` when the block has no `data` line, which is
    /// no event for a browser.
    pub data: Option<Bytes>,
    /// The ID it sets; empty resets it.
    pub id: Option<String>,
    /// The reconnection time it sets, in milliseconds.
    pub retry: Option<u64>,
}

/// What a stream is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// A comment, which keeps the connection alive; its text is dropped.
    Comment,
}

/// A stream that cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// An event or a line is larger than permitted.
    #[error("an event is too large")]
    TooLarge,
    /// An event is not UTF-8.
    #[error("an event is not UTF-8")]
    NotText,
}

/// Reads one stream of events.
#[derive(Debug)]
pub struct Decoder {
    max: usize,
    /// Bytes of the current block so far, comments left out.
    size: usize,
    line: BytesMut,
    event: Event,
    data: BytesMut,
    has_data: bool,
    start: Start,
    after_cr: bool,
}

/// How much of a byte order mark has been seen at the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Mark(usize),
    Over,
}

/// The byte order mark.
const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Decoder {
    /// A decoder for a stream whose events have at most `max` bytes each, field names included.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            size: 0,
            line: BytesMut::new(),
            event: Event::default(),
            data: BytesMut::new(),
            has_data: false,
            start: Start::Mark(0),
            after_cr: false,
        }
    }

    /// Takes from `bytes` up to the end of the next item. `None` means that all of it was taken
    /// and the item goes on.
    ///
    /// # Errors
    ///
    /// When the stream cannot be read on; it must be given up then.
    pub fn push(&mut self, bytes: &mut Bytes) -> Result<Option<Item>, Unreadable> {
        self.skip_mark(bytes);
        loop {
            if self.after_cr && !bytes.is_empty() {
                self.after_cr = false;
                if bytes.first() == Some(&b'\n') {
                    bytes.advance(1);
                }
            }
            let Some(end) = memchr2(b'\r', b'\n', bytes) else {
                self.keep(bytes)?;
                bytes.clear();
                return Ok(None);
            };
            let line = bytes.split_to(end);
            self.after_cr = bytes.first() == Some(&b'\r');
            bytes.advance(1);
            if let Some(item) = self.end_line(&line)? {
                return Ok(Some(item));
            }
        }
    }

    /// Whether the stream, if it ended here, would leave an event without its end; such an
    /// event does not count.
    pub fn is_incomplete(&self) -> bool {
        self.size > 0 || !self.line.is_empty()
    }

    /// Skips a byte order mark at the start of the stream.
    fn skip_mark(&mut self, bytes: &mut Bytes) {
        while let Start::Mark(seen) = self.start {
            match (bytes.first(), MARK.get(seen)) {
                (None, Some(_)) => return,
                (Some(byte), Some(mark)) if byte == mark => {
                    bytes.advance(1);
                    self.start = Start::Mark(seen + 1);
                }
                (_, None) => self.start = Start::Over,
                (Some(_), Some(_)) => {
                    // What looked like a mark is the beginning of a line.
                    self.line
                        .extend_from_slice(MARK.get(..seen).unwrap_or_default());
                    self.start = Start::Over;
                }
            }
        }
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, part: &[u8]) -> Result<(), Unreadable> {
        if self.size + self.line.len() + part.len() > self.max {
            return Err(Unreadable::TooLarge);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    /// Reads the line that ends with `part`.
    fn end_line(&mut self, part: &Bytes) -> Result<Option<Item>, Unreadable> {
        if self.line.is_empty() {
            return self.read_line(part);
        }
        self.keep(part)?;
        let line = self.line.split().freeze();
        self.read_line(&line)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Option<Item>, Unreadable> {
        if line.is_empty() {
            return self.end_block();
        }
        if self.size + line.len() > self.max {
            return Err(Unreadable::TooLarge);
        }
        let (name, value) = match line.iter().position(|&b| b == b':') {
            Some(0) => return Ok(Some(Item::Comment)),
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        self.size += line.len();
        self.read_field(name, value)?;
        Ok(None)
    }

    fn read_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unreadable> {
        match name {
            b"data" => {
                if self.has_data {
                    self.data.put_u8(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event.event = Some(text(value)?).filter(|name| !name.is_empty()),
            b"id" if !value.contains(&0) => self.event.id = Some(text(value)?),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.event.retry = text(value)?.parse().ok();
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends a block; one that says nothing is nothing.
    fn end_block(&mut self) -> Result<Option<Item>, Unreadable> {
        self.size = 0;
        let mut event = std::mem::take(&mut self.event);
        let data = self.data.split().freeze();
        if std::mem::take(&mut self.has_data) {
            str::from_utf8(&data).map_err(|_| Unreadable::NotText)?;
            event.data = Some(data);
        } else {
            // A type without data is dropped by the standard.
            event.event = None;
        }
        Ok((event != Event::default()).then_some(Item::Event(event)))
    }
}

fn text(value: &[u8]) -> Result<String, Unreadable> {
    str::from_utf8(value)
        .map(Into::into)
        .map_err(|_| Unreadable::NotText)
}

/// Writes an event. Line ends inside of it never end a field early: in the data each becomes a
/// new `data` line, in type and ID they end the value.
pub fn encode(event: &Event, out: &mut BytesMut) {
    if let Some(id) = &event.id {
        field(b"id: ", first_line(id), out);
    }
    if let Some(name) = &event.event {
        field(b"event: ", first_line(name), out);
    }
    if let Some(retry) = event.retry {
        field(b"retry: ", retry.to_string().as_bytes(), out);
    }
    if let Some(data) = &event.data {
        let mut rest: &[u8] = data;
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            let (line, after) = rest.split_at(end);
            field(b"data: ", line, out);
            let after_crlf = after.strip_prefix(b"\r\n");
            rest = after_crlf.or(after.get(1..)).unwrap_or_default();
        }
        field(b"data: ", rest, out);
    }
    out.put_u8(b'\n');
}

/// Writes a comment, which keeps a connection alive.
pub fn encode_comment(out: &mut BytesMut) {
    out.put_slice(b":\n\n");
}

fn field(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.reserve(name.len() + value.len() + 2);
    out.put_slice(name);
    out.put_slice(value);
    out.put_u8(b'\n');
}

fn first_line(value: &str) -> &[u8] {
    value
        .split(['\r', '\n'])
        .next()
        .unwrap_or_default()
        .as_bytes()
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<Item>, bool), Unreadable> {
        let mut decoder = Decoder::new(1000);
        let mut items = vec![];
        for piece in pieces {
            let mut bytes = Bytes::copy_from_slice(piece);
            while let Some(item) = decoder.push(&mut bytes)? {
                items.push(item);
            }
            assert!(bytes.is_empty());
        }
        Ok((items, decoder.is_incomplete()))
    }

    fn message(data: &'static str) -> Item {
        Item::Event(Event {
            data: Some(data.into()),
            ..Event::default()
        })
    }

    #[test]
    fn streams_are_read_by_the_letter_of_the_standard() {
        let all = Event {
            event: Some("message".into()),
            data: Some("a\nb".into()),
            id: Some("7".into()),
            retry: Some(100),
        };
        let id = |id: &str| {
            Item::Event(Event {
                id: Some(id.into()),
                ..Event::default()
            })
        };
        let cases: &[(&str, Vec<Item>)] = &[
            ("data: a\n\n", vec![message("a")]),
            ("data: a\r\n\r\n", vec![message("a")]),
            ("data: a\r\r", vec![message("a")]),
            ("data: a\r\n\n", vec![message("a")]),
            (
                "data: a\n\r\ndata: b\r\n\r",
                vec![message("a"), message("b")],
            ),
            ("\u{feff}data: a\n\n", vec![message("a")]),
            ("\u{feff}\u{feff}data: a\n\n", vec![]),
            ("\n\n\ndata: a\n\n\n\n", vec![message("a")]),
            ("data:a\n\n", vec![message("a")]),
            ("data:  a \n\n", vec![message(" a ")]),
            ("data: a:b\n\n", vec![message("a:b")]),
            ("data\n\n", vec![message("")]),
            ("data:\n\n", vec![message("")]),
            ("data\ndata\n\n", vec![message("\n")]),
            ("data: a\ndata: b\ndata:\n\n", vec![message("a\nb\n")]),
            (": hello\n\n", vec![Item::Comment]),
            (":\n:x\n", vec![Item::Comment, Item::Comment]),
            (
                "data: a\n:x\ndata: b\n\n",
                vec![Item::Comment, message("a\nb")],
            ),
            ("event: x\n\n", vec![]),
            ("event: x\n\ndata: a\n\n", vec![message("a")]),
            ("event:\ndata: a\n\n", vec![message("a")]),
            ("id: 1\n\n", vec![id("1")]),
            ("id\n\n", vec![id("")]),
            ("id: 1\0\ndata: a\n\n", vec![message("a")]),
            ("retry: 1x\ndata: a\n\n", vec![message("a")]),
            (
                "retry:\nfoo: bar\n data: b\nDATA: c\ndata: a\n\n",
                vec![message("a")],
            ),
            (
                "event: message\nid: 7\nretry: 100\ndata: a\ndata: b\n\n",
                vec![Item::Event(all)],
            ),
        ];
        for (stream, expected) in cases {
            let (items, incomplete) = decode(&[stream.as_bytes()]).unwrap();
            assert_eq!((&items, incomplete), (expected, false), "{stream:?}");
        }
    }

    #[test]
    fn an_event_without_its_end_does_not_count_and_is_told() {
        for stream in [
            "d",
            "data: a",
            "data: a\n",
            "data: a\r",
            "data: a\r\n",
            "id: 1\n",
        ] {
            assert_eq!(
                decode(&[stream.as_bytes()]),
                Ok((vec![], true)),
                "{stream:?}"
            );
        }
        assert!(!decode(&[b"data: a\n\n"]).unwrap().1);
    }

    #[test]
    fn an_event_is_given_out_with_the_cr_that_ends_it() {
        let mut decoder = Decoder::new(100);
        let mut bytes = Bytes::from_static(b"data: a\r\n\r");
        assert_eq!(decoder.push(&mut bytes), Ok(Some(message("a"))));
        let mut bytes = Bytes::from_static(b"\ndata: b\n\n");
        assert_eq!(decoder.push(&mut bytes), Ok(Some(message("b"))));
    }

    #[test]
    fn a_crlf_cut_in_two_is_one_line_end() {
        let expected = Ok((vec![message("a")], false));
        assert_eq!(decode(&[b"data: a\r", b"\n", b"\n"]), expected);
        assert_eq!(
            decode(&[b"data: a\r", b"", b"\n", b"", b"\r", b"\n"]),
            expected
        );
    }

    #[test]
    fn an_event_has_a_largest_size_however_it_is_built() {
        let long = "a".repeat(1001);
        let lines = "data: a\n".repeat(200);
        let unknown = "x: a\n".repeat(300);
        for stream in [
            format!("data: {long}\n\n"),
            lines,
            format!(":{long}\n"),
            long.clone(),
            unknown,
        ] {
            assert_eq!(decode(&[stream.as_bytes()]), Err(Unreadable::TooLarge));
            let pieces: Vec<_> = stream.as_bytes().chunks(7).collect();
            assert_eq!(decode(&pieces), Err(Unreadable::TooLarge));
        }
        let many = "data: aaaaaaaaaa\n\n".repeat(500);
        assert_eq!(decode(&[many.as_bytes()]).unwrap().0.len(), 500);
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        for stream in [
            &b"data: \xff\n\n"[..],
            b"event: \xc0\xae\ndata: a\n\n",
            b"id: \xff\n\n",
        ] {
            assert_eq!(decode(&[stream]), Err(Unreadable::NotText));
        }
    }

    #[test]
    fn what_is_written_cannot_be_broken_out_of() {
        let event = Event {
            event: Some("a\nid: 1".into()),
            data: Some("x\r\rid: 2\r\ny".into()),
            id: Some("3\revent: b".into()),
            retry: None,
        };
        let mut out = BytesMut::new();
        encode(&event, &mut out);
        let expected = "id: 3\nevent: a\ndata: x\ndata: \ndata: id: 2\ndata: y\n\n";
        assert_eq!(str::from_utf8(&out).unwrap(), expected);
        let mut out = BytesMut::new();
        encode_comment(&mut out);
        assert_eq!(decode(&[&out]), Ok((vec![Item::Comment], false)));
    }

    fn line() -> impl Strategy<Value = String> {
        "[ :a-cé\u{feff}]{0,6}"
    }

    fn event() -> impl Strategy<Value = Event> {
        let data = proptest::option::of(
            proptest::collection::vec(line(), 1..4).prop_map(|lines| lines.join("\n").into()),
        );
        let id = proptest::option::of(line());
        (
            proptest::option::of("[a-z/ ]{1,8}"),
            data,
            id,
            any::<Option<u64>>(),
        )
            .prop_map(|(event, data, id, retry)| {
                let event = data.as_ref().and(event);
                Event {
                    event,
                    data,
                    id,
                    retry,
                }
            })
            .prop_filter("says something", |event| *event != Event::default())
    }

    proptest! {
        #[test]
        fn any_splitting_gives_the_same_events(
            stream in "(data|event|id|retry|:|x|\u{feff}|[\r\n]|: |[0-9a]){0,40}",
            cuts in proptest::collection::vec(0..200_usize, 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode(&pieces), decode(&[bytes]));
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(&single), decode(&[bytes]));
        }

        #[test]
        fn what_is_written_is_read_again(events in proptest::collection::vec(event(), 1..5)) {
            let mut out = BytesMut::new();
            for event in &events {
                encode(event, &mut out);
            }
            let expected: Vec<_> = events.into_iter().map(Item::Event).collect();
            prop_assert_eq!(decode(&[&out]), Ok((expected, false)));
        }
    }
}
