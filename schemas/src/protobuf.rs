//! Protocol Buffers' encoding, field by field (developers.google.com, "Encoding").

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is no Protocol Buffers message")]
pub struct Garbled;

/// What a field holds, as far as anybody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// A number of variable length.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text that it is.
    ///
    /// # Errors
    /// It is none.
    pub fn text(self) -> Result<&'a str, Garbled> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| Garbled),
            Self::Number(_) => Err(Garbled),
        }
    }

    /// The message or bytes that it is.
    ///
    /// # Errors
    /// It is a number.
    pub fn bytes(self) -> Result<&'a [u8], Garbled> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Garbled),
        }
    }
}

/// Gives each field to `take`, by its number; those of a fixed size are passed over.
///
/// # Errors
/// What is cut, or no message; what `take` refuses.
pub fn each<'a, E: From<Garbled>>(
    message: &'a [u8],
    mut take: impl FnMut(u64, Value<'a>) -> Result<(), E>,
) -> Result<(), E> {
    const VARINT: u64 = 0;
    const EIGHT_BYTES: u64 = 1;
    const DELIMITED: u64 = 2;
    const FOUR_BYTES: u64 = 5;
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            VARINT => take(tag >> 3, Value::Number(varint(&mut rest)?))?,
            DELIMITED => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Garbled)?;
                take(tag >> 3, Value::Bytes(bytes(&mut rest, length)?))?;
            }
            EIGHT_BYTES => drop(bytes(&mut rest, 8)?),
            FOUR_BYTES => drop(bytes(&mut rest, 4)?),
            _ => return Err(Garbled.into()),
        }
    }
    Ok(())
}

fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Garbled> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Garbled)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Garbled> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first().ok_or(Garbled)?;
        *rest = left;
        value |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(Garbled)?;
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Garbled> {
        let mut found = Vec::new();
        each(message, |number, value| {
            found.push((number, value));
            Ok::<_, Garbled>(())
        })?;
        Ok(found)
    }

    #[test]
    fn fields_come_by_their_numbers_and_fixed_ones_are_passed_over() {
        let message =
            b"\x0a\x02ab\x10\x96\x01\x41\x00\x00\x00\x00\x00\x00\x00\x00\x45\x00\x00\x00\x00\x1a\x00";
        assert_eq!(
            fields(message),
            Ok(vec![
                (1, Value::Bytes(b"ab")),
                (2, Value::Number(150)),
                (3, Value::Bytes(b"")),
            ])
        );
        assert_eq!(Value::Bytes(b"\xff").text(), Err(Garbled));
        assert_eq!(Value::Number(1).bytes(), Err(Garbled));
    }

    #[test]
    fn what_is_cut_or_no_message_is_refused() {
        for bytes in [
            &b"\x0a"[..],
            b"\x0a\x05ab",
            b"\x0b",
            b"\x80",
            b"\x41\x00",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert_eq!(fields(bytes), Err(Garbled), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            fields(&bytes).ok();
        }
    }
}
