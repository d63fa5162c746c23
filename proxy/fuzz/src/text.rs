//! A request as people write it: a line of method and target, header lines, an empty line, a body.
//! Lines end with LF or CRLF. What `http` does not take is left out.

use http::{HeaderName, HeaderValue, Method, Request, Uri, request::Parts};

/// Cuts at the first of those bytes; without it, the second part is empty.
pub fn cut<'a>(data: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = data.windows(at.len()).position(|window| window == at);
    found.map_or((data, &[][..]), |found| {
        (&data[..found], &data[found + at.len()..])
    })
}

fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (line, after) = cut(rest, b"\n");
    *rest = after;
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The head and the body; nothing where the first line is none.
pub fn request(data: &[u8]) -> Option<(Parts, &[u8])> {
    let mut rest = data;
    let first = line(&mut rest);
    let (method, target) = cut(first, b" ");
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    while !rest.is_empty() {
        let line = line(&mut rest);
        if line.is_empty() {
            break;
        }
        let (name, value) = cut(line, b":");
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            request.headers_mut().append(name, value);
        }
    }
    Some((request.into_parts().0, rest))
}
