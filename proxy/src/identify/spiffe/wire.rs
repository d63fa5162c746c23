//! The few messages of the Workload API, read and written as Protocol Buffers.
//!
//! Bytes come in, fields go out; unknown fields are passed over, as the encoding asks for
//! (Protocol Buffers, "Encoding"; SPIFFE Workload API, `workloadapi.proto`).

use bytes::Bytes;
use outrider_schemas::protobuf::{self, Value};
use secrecy::SecretSlice;

/// Bytes that are not the message they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the Workload API's answer is not understood")]
pub(super) struct Garbled;

impl From<protobuf::Garbled> for Garbled {
    fn from(protobuf::Garbled: protobuf::Garbled) -> Self {
        Self
    }
}

/// One SVID of an `X509SVIDResponse`.
pub(super) struct X509Svid {
    pub(super) id: String,
    /// DER certificates one after another, the leaf first.
    pub(super) chain: Bytes,
    /// PKCS#8 DER.
    pub(super) key: SecretSlice<u8>,
    /// DER certificates of the trust domain's authorities.
    pub(super) bundle: Bytes,
}

/// `X509SVIDResponse`: everything the workload has.
pub(super) struct X509Svids {
    pub(super) svids: Vec<X509Svid>,
    /// Bundles of other trust domains, by trust domain.
    pub(super) federated: Vec<(String, Bytes)>,
}

/// One SVID of a `JWTSVIDResponse`: its ID and the token.
pub(super) struct JwtSvid {
    pub(super) id: String,
    pub(super) token: String,
}

/// Reads an `X509SVIDResponse`.
pub(super) fn x509_svids(message: &Bytes) -> Result<X509Svids, Garbled> {
    let (mut svids, mut federated) = (Vec::new(), Vec::new());
    each(message, |number, value| {
        match number {
            1 => svids.push(x509_svid(&value)?),
            3 => federated.push(entry(&value)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(X509Svids { svids, federated })
}

fn x509_svid(message: &Bytes) -> Result<X509Svid, Garbled> {
    let mut svid = X509Svid {
        id: String::new(),
        chain: Bytes::new(),
        key: SecretSlice::from(Vec::new()),
        bundle: Bytes::new(),
    };
    each(message, |number, value| {
        match number {
            1 => svid.id = text(&value)?,
            2 => svid.chain = value,
            3 => svid.key = SecretSlice::from(value.to_vec()),
            4 => svid.bundle = value,
            _ => {}
        }
        Ok(())
    })?;
    Ok(svid)
}

/// Reads a `JWTBundlesResponse`: JWK sets by trust domain.
pub(super) fn jwt_bundles(message: &Bytes) -> Result<Vec<(String, Bytes)>, Garbled> {
    let mut bundles = Vec::new();
    each(message, |number, value| {
        if number == 1 {
            bundles.push(entry(&value)?);
        }
        Ok(())
    })?;
    Ok(bundles)
}

/// Reads a `JWTSVIDResponse`.
pub(super) fn jwt_svids(message: &Bytes) -> Result<Vec<JwtSvid>, Garbled> {
    let mut svids = Vec::new();
    each(message, |number, value| {
        if number == 1 {
            let (id, token) = pair(&value)?;
            svids.push(JwtSvid {
                id,
                token: text(&token)?,
            });
        }
        Ok(())
    })?;
    Ok(svids)
}

/// Writes a `JWTSVIDRequest`.
pub(super) fn jwt_request(audience: &str, id: &str) -> Bytes {
    let mut message = Vec::with_capacity(audience.len() + id.len() + 8);
    put(1, audience, &mut message);
    put(2, id, &mut message);
    message.into()
}

/// An entry of a `map<string, bytes>`.
fn entry(message: &Bytes) -> Result<(String, Bytes), Garbled> {
    pair(message)
}

/// Two fields: 1 is text, 2 is bytes or text.
fn pair(message: &Bytes) -> Result<(String, Bytes), Garbled> {
    let (mut first, mut second) = (String::new(), Bytes::new());
    each(message, |number, value| {
        match number {
            1 => first = text(&value)?,
            2 => second = value,
            _ => {}
        }
        Ok(())
    })?;
    Ok((first, second))
}

fn text(value: &Bytes) -> Result<String, Garbled> {
    std::str::from_utf8(value)
        .map(str::to_owned)
        .map_err(|_| Garbled)
}

/// Gives each length-delimited field to `take`; numbers are passed over.
fn each(
    message: &Bytes,
    mut take: impl FnMut(u64, Bytes) -> Result<(), Garbled>,
) -> Result<(), Garbled> {
    protobuf::each(message, |number, value| match value {
        Value::Bytes(bytes) => take(number, message.slice_ref(bytes)),
        Value::Number(_) => Ok(()),
    })
}

fn put(number: u8, text: &str, to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        to.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    to.push(u8::try_from(length).unwrap_or(0));
    to.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_response_is_read_and_what_is_unknown_in_it_passed_over() {
        let svid = b"\x0a\x0cspiffe://a/b\x12\x02cc\x1a\x01k\x22\x01b\x2a\x04hint";
        let mut message = vec![0x0a, u8::try_from(svid.len()).unwrap()];
        message.extend_from_slice(svid);
        message.extend_from_slice(b"\x12\x03crl\x1a\x08\x0a\x03d.e\x12\x01x");
        message.extend_from_slice(
            b"\x38\x96\x01\x41\x00\x00\x00\x00\x00\x00\x00\x00\x45\x00\x00\x00\x00",
        );
        let read = x509_svids(&message.into()).unwrap();
        assert_eq!(read.svids.len(), 1);
        let svid = &read.svids[0];
        assert_eq!(
            (
                &*svid.id,
                &svid.chain[..],
                svid.key.expose_secret(),
                &svid.bundle[..]
            ),
            ("spiffe://a/b", &b"cc"[..], &b"k"[..], &b"b"[..])
        );
        assert_eq!(
            read.federated,
            [("d.e".to_owned(), Bytes::from_static(b"x"))]
        );
    }

    #[test]
    fn a_request_is_read_back() {
        let long = "a".repeat(300);
        let message = jwt_request(&long, "spiffe://a/b");
        let (audience, id) = pair(&message).unwrap();
        assert_eq!((audience, &id[..]), (long, &b"spiffe://a/b"[..]));
    }

    #[test]
    fn what_is_cut_or_no_message_is_refused() {
        for bytes in [
            &b"\x0a"[..],
            b"\x0a\x05ab",
            b"\x0a\x02\x0a\x09",
            b"\x0a\x04\x0a\x02\xff\xfe",
            b"\x0b",
            b"\x80",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert!(
                x509_svids(&Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (x509_svids(&bytes).is_ok(), jwt_svids(&bytes).is_ok(), jwt_bundles(&bytes).is_ok());
        }
    }
}
