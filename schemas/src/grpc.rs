//! The methods of gRPC services, from the descriptors that their compiler writes
//! (`google/protobuf/descriptor.proto`).
//!
//! In: a `FileDescriptorSet`. Out: each method by its path, and what its options say of it. Of
//! messages nothing is read.

use std::collections::BTreeMap;

use crate::protobuf::{Garbled, Value, each};

/// Most methods of one set.
const MOST: usize = 10_000;

/// Descriptors that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDescriptors {
    /// No `FileDescriptorSet`.
    #[error(
        "expected a set of descriptors, as `protoc --descriptor_set_out=FILE` or `buf build -o FILE.binpb` write it"
    )]
    Garbled,
    /// No service in it.
    #[error("it describes no service: name the files that define them when it is written")]
    NoService,
    /// A name that is none.
    #[error("`{0}` is not the name of a method")]
    Name(String),
    /// Two methods of one name.
    #[error("`{0}` is described twice")]
    Twice(String),
    /// Too many methods.
    #[error("it describes more than 10,000 methods: make several services of it")]
    TooMany,
}

impl From<Garbled> for BadDescriptors {
    fn from(Garbled: Garbled) -> Self {
        Self::Garbled
    }
}

/// What is known of a method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Method {
    /// `idempotency_level = NO_SIDE_EFFECTS`.
    pub read_only: bool,
    /// It, or `IDEMPOTENT`.
    pub idempotent: bool,
}

/// Reads the methods of all services, by path: `package.Service/Method`.
///
/// # Errors
/// [`BadDescriptors`].
pub fn methods(set: &[u8]) -> Result<BTreeMap<String, Method>, BadDescriptors> {
    let mut found = BTreeMap::new();
    each(set, |number, value| match number {
        1 => file(value.bytes()?, &mut found),
        _ => Ok(()),
    })?;
    if found.is_empty() {
        return Err(BadDescriptors::NoService);
    }
    Ok(found)
}

fn file(file: &[u8], found: &mut BTreeMap<String, Method>) -> Result<(), BadDescriptors> {
    let (mut package, mut services) = ("", Vec::new());
    each(file, |number, value| {
        match number {
            2 => package = value.text()?,
            6 => services.push(value.bytes()?),
            _ => {}
        }
        Ok::<_, BadDescriptors>(())
    })?;
    services
        .into_iter()
        .try_for_each(|one| service(one, package, found))
}

fn service(
    service: &[u8],
    package: &str,
    found: &mut BTreeMap<String, Method>,
) -> Result<(), BadDescriptors> {
    let (mut name, mut methods) = ("", Vec::new());
    each(service, |number, value| {
        match number {
            1 => name = value.text()?,
            2 => methods.push(method(value.bytes()?)?),
            _ => {}
        }
        Ok::<_, BadDescriptors>(())
    })?;
    let whole = if package.is_empty() {
        name.to_owned()
    } else {
        format!("{package}.{name}")
    };
    for (name, method) in methods {
        let path = format!("{whole}/{name}");
        if !whole.split('.').all(is_name) || !is_name(name) {
            return Err(BadDescriptors::Name(path));
        }
        if found.len() == MOST {
            return Err(BadDescriptors::TooMany);
        }
        if found.insert(path.clone(), method).is_some() {
            return Err(BadDescriptors::Twice(path));
        }
    }
    Ok(())
}

fn method(method: &[u8]) -> Result<(&str, Method), BadDescriptors> {
    let (mut name, mut level) = ("", 0);
    each(method, |number, value| {
        match number {
            1 => name = value.text()?,
            4 => level = idempotency(value.bytes()?)?,
            _ => {}
        }
        Ok::<_, BadDescriptors>(())
    })?;
    let known = Method {
        read_only: level == 1,
        idempotent: level == 1 || level == 2,
    };
    Ok((name, known))
}

/// `MethodOptions.idempotency_level`.
fn idempotency(options: &[u8]) -> Result<u64, BadDescriptors> {
    let mut level = 0;
    each(options, |number, value| {
        if let (34, Value::Number(said)) = (number, value) {
            level = said;
        }
        Ok::<_, BadDescriptors>(())
    })?;
    Ok(level)
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap_or(0);
        assert!(length < 0x80);
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn rpc(name: &str, level: Option<u8>) -> Vec<u8> {
        let options = level.map(|level| field(4, &[0x90, 0x02, level]));
        let method = [field(1, name.as_bytes()), options.unwrap_or_default()].concat();
        field(2, &method)
    }

    fn set(package: &str, service: &str, methods: &[Vec<u8>]) -> Vec<u8> {
        let service = [&[field(1, service.as_bytes())], methods].concat().concat();
        let file = [
            field(1, b"x.proto"),
            field(2, package.as_bytes()),
            field(6, &service),
        ];
        field(1, &file.concat())
    }

    #[test]
    fn methods_are_known_by_their_paths() {
        let made = set(
            "shop.v1",
            "Orders",
            &[rpc("Get", Some(1)), rpc("Put", Some(2)), rpc("Add", None)],
        );
        let of = |read_only, idempotent| Method {
            read_only,
            idempotent,
        };
        let expected = [
            ("shop.v1.Orders/Add", of(false, false)),
            ("shop.v1.Orders/Get", of(true, true)),
            ("shop.v1.Orders/Put", of(false, true)),
        ];
        let expected = expected.map(|(path, method)| (path.to_owned(), method));
        assert_eq!(methods(&made), Ok(BTreeMap::from(expected)));
        let bare = methods(&set("", "Orders", &[rpc("Get", None)])).unwrap_or_default();
        assert!(bare.contains_key("Orders/Get"));
    }

    #[test]
    fn descriptors_that_say_nothing_or_too_much_are_refused() {
        let get = || rpc("Get", None);
        for (bytes, expected) in [
            (b"{}".to_vec(), BadDescriptors::Garbled),
            (Vec::new(), BadDescriptors::NoService),
            (set("a", "S", &[]), BadDescriptors::NoService),
            (
                set("a", "S", &[get(), get()]),
                BadDescriptors::Twice("a.S/Get".into()),
            ),
            (
                set("a/b", "S", &[get()]),
                BadDescriptors::Name("a/b.S/Get".into()),
            ),
            (
                set("a", "S", &[rpc("../x", None)]),
                BadDescriptors::Name("a.S/../x".into()),
            ),
            (
                set("a", "", &[get()]),
                BadDescriptors::Name("a./Get".into()),
            ),
        ] {
            assert_eq!(methods(&bytes), Err(expected), "{bytes:?}");
        }
    }
}
