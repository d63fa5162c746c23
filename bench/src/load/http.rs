//! As much of HTTP/1.1 as finding the end of a message takes.

use anyhow::{Context, Result};

/// How far a message has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// It is whole.
    Whole {
        /// Length of the head with its empty line.
        head: usize,
        /// Length of the head and the body as they are on the wire.
        length: usize,
        /// Length of the content, without the framing of chunks.
        content: usize,
    },
}

/// Finds the end of an HTTP/1.1 message with a `Content-Length` or in chunks.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(Parsed::Partial);
    };
    let fields = bytes.get(..head).unwrap_or_default();
    let head = head + 4;
    let mut content = None;
    for line in fields.split(|b| *b == b'\n').skip(1) {
        if let Some(value) = value_of(line, b"content-length:") {
            content = Some(std::str::from_utf8(value)?.trim().parse::<usize>()?);
        } else if value_of(line, b"transfer-encoding:").is_some() {
            return chunked(bytes, head);
        }
    }
    let content = content.context("a message without a length")?;
    let length = head + content;
    Ok(if bytes.len() < length {
        Parsed::Partial
    } else {
        Parsed::Whole {
            head,
            length,
            content,
        }
    })
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (field, value) = line.split_at_checked(name.len())?;
    field.eq_ignore_ascii_case(name).then_some(value)
}

/// The end of a chunked body without trailers, as nothing here sends any. Content here has no CR, so that what looks like
/// the last chunk is it.
fn chunked(bytes: &[u8], head: usize) -> Result<Parsed> {
    if !bytes.ends_with(b"\r\n0\r\n\r\n") {
        return Ok(Parsed::Partial);
    }
    let mut rest = bytes.get(head..).unwrap_or_default();
    let mut content = 0;
    loop {
        let end = rest.iter().position(|b| *b == b'\r').context("a chunk")?;
        let size = std::str::from_utf8(rest.get(..end).unwrap_or_default())?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        if size == 0 {
            break;
        }
        content += size;
        rest = rest.get(end + 2 + size + 2..).context("a whole chunk")?;
    }
    Ok(Parsed::Whole {
        head,
        length: bytes.len(),
        content,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_message_is_whole_with_its_last_byte() {
        let message = b"POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabc";
        let whole = Parsed::Whole {
            head: 47,
            length: 50,
            content: 3,
        };
        assert_eq!(parse(message).unwrap(), whole);
        let short = message.split_last().unwrap().1;
        assert_eq!(parse(short).unwrap(), Parsed::Partial);
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn the_content_of_chunks_is_counted_without_their_framing() {
        let message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
        let Parsed::Whole { content, .. } = parse(message).unwrap() else {
            unreachable!()
        };
        assert_eq!(content, 13);
        let short = message.split_last().unwrap().1;
        assert_eq!(parse(short).unwrap(), Parsed::Partial);
    }
}
