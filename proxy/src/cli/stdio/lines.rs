//! Lines of bytes, bounded.

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Bytes of a line: more than a sidecar passes.
const LONGEST: usize = 64 * 1024 * 1024;

/// A stream, line by line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    stream: BufReader<R>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end.
    Whole(Bytes),
    /// One that is too long; it was skipped.
    TooLong,
    /// Nothing more: the stream is over, or broke.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn of(stream: R) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The next line; what has no end is one, too.
    pub(super) async fn next(&mut self) -> Line {
        let (mut line, mut too_long) = (Vec::new(), false);
        loop {
            let Ok(here) = self.stream.fill_buf().await else {
                return Line::End;
            };
            let end = memchr::memchr(b'\n', here);
            let part = here.get(..end.unwrap_or(here.len())).unwrap_or_default();
            let (taken, over) = (part.len() + usize::from(end.is_some()), here.is_empty());
            if line.len() + part.len() > LONGEST {
                too_long = true;
                line = Vec::new();
            } else if !too_long {
                line.extend_from_slice(part);
            }
            self.stream.consume(taken);
            if over && line.is_empty() && !too_long {
                return Line::End;
            }
            if end.is_some() || over {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return if too_long {
                    Line::TooLong
                } else {
                    Line::Whole(line.into())
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_with_either_end_and_the_last_one_needs_none() {
        let mut lines = Lines::of(&b"one\r\n\ntwo"[..]);
        for line in ["one", "", "two"] {
            assert_eq!(lines.next().await, Line::Whole(Bytes::from(line)));
        }
        assert_eq!(lines.next().await, Line::End);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_whole() {
        let long = [vec![b'a'; LONGEST + 1], b"\nnext\n".to_vec()].concat();
        let mut lines = Lines::of(&long[..]);
        assert_eq!(lines.next().await, Line::TooLong);
        assert_eq!(lines.next().await, Line::Whole(Bytes::from("next")));
        assert_eq!(lines.next().await, Line::End);
    }
}
