//! A request to a proxy, or inside what a proxy opened: which host does it name?
//!
//! Pure functions over a request's head. A request to a proxy is a URL or `CONNECT` (RFC 9112
//! §3.2.2, §3.2.3); what the connection was opened for, the URL and `Host` all say the same, or
//! the request is refused (RFC 9110 §7.2).

use http::{Method, Version, header::HOST, request::Parts};

use super::{
    Origin,
    host::{Authority, Scheme, absolute, only_host, split_port},
    target::{Target, Unadmitted, check_coding},
};

/// Admits a request to a forward listener.
///
/// # Errors
///
/// When it is neither a URL nor a tunnel, or names two hosts.
pub(super) fn admit(request: &Parts) -> Result<Target<'_>, Unadmitted> {
    if request.method == Method::CONNECT {
        return tunnel(request).map(Target::through);
    }
    let (scheme, authority) = absolute(&request.uri).ok_or(Unadmitted::NotAbsolute)?;
    agree(request, scheme, authority)?;
    check_coding(&request.headers)?;
    Ok(Target::at(authority, &request.uri))
}

/// The host and port that a tunnel is asked for: the target alone, and `Host` does not differ.
pub(super) fn tunnel(request: &Parts) -> Result<Authority<'_>, Unadmitted> {
    if request.version == Version::HTTP_2 {
        return Err(Unadmitted::Tunnel);
    }
    let alone = request.uri.scheme().is_none() && request.uri.path_and_query().is_none();
    let authority = request.uri.authority().filter(|_| alone);
    let authority = authority.and_then(|authority| Authority::with_port(authority.as_str()));
    let authority = authority.ok_or(Unadmitted::NotAbsolute)?;
    if request.version == Version::HTTP_10 && !request.headers.contains_key(HOST) {
        // It knows no `Host`, and some clients still tunnel by it.
        return Ok(authority);
    }
    let host = only_host(request)?;
    let (name, port) = split_port(host).ok_or(Unadmitted::Host)?;
    // Some clients leave the port out there.
    let same =
        name.eq_ignore_ascii_case(authority.name) && port.is_none_or(|port| port == authority.port);
    same.then_some(authority).ok_or(Unadmitted::Differs)
}

/// Admits a request inside a tunnel or behind a redirect.
///
/// # Errors
///
/// When it asks for a tunnel, or for another host than the connection was opened for.
pub(super) fn inside<'a>(origin: &'a Origin, request: &'a Parts) -> Result<Target<'a>, Unadmitted> {
    if request.method == Method::CONNECT {
        return Err(Unadmitted::Tunnel);
    }
    if !request.uri.path().starts_with('/') {
        return Err(Unadmitted::Target);
    }
    let host = only_host(request)?;
    let named = Authority::read(host, origin.scheme).ok_or(Unadmitted::Host)?;
    let authority = match &origin.name {
        Some(name) => Authority {
            name,
            port: origin.port,
        },
        None => named,
    };
    if !named.agrees(authority) || named.port != origin.port {
        return Err(Unadmitted::Differs);
    }
    if let Some(authority) = request.uri.authority() {
        let said = Authority::read(authority.as_str(), origin.scheme).ok_or(Unadmitted::Host)?;
        if !said.agrees(named) {
            return Err(Unadmitted::Differs);
        }
    }
    check_coding(&request.headers)?;
    Ok(Target::at(authority, &request.uri))
}

/// Refuses a URL that names another host than `Host` does.
fn agree(request: &Parts, scheme: Scheme, authority: Authority<'_>) -> Result<(), Unadmitted> {
    let host = only_host(request)?;
    let named = Authority::read(host, scheme).ok_or(Unadmitted::Host)?;
    if named.agrees(authority) {
        Ok(())
    } else {
        Err(Unadmitted::Differs)
    }
}
