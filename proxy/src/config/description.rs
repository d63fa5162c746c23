//! Reads an OpenAPI description and the files beside it.
//!
//! A description names further files itself, so those come from its own directory and from
//! nowhere else: no other directory, no link that leads out, nothing larger than a description is.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use outrider_schemas::openapi::{self, BadDescription, Document, Loaded, MAX_DOCUMENT_DEPTH};
use serde_json::Value;

/// The most bytes of one file.
pub const MAX_BYTES: u64 = 32 << 20;

/// A description that is not read, and why.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file is not there, or may not be read.
    #[error("cannot be read: {0}")]
    File(#[source] io::Error),
    /// More than [`MAX_BYTES`].
    #[error("is larger than 32 MiB")]
    TooLarge,
    /// Neither strict JSON nor strict YAML.
    #[error("{0}")]
    Syntax(String),
    /// Read, but no description that can be served.
    #[error(transparent)]
    Description(#[from] BadDescription),
}

impl Unreadable {
    /// Whether the file could not be opened at all.
    pub fn is_unopened(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// A description and every file that was read for it, to be watched.
#[derive(Debug)]
pub struct Described {
    /// The operations and the report.
    pub loaded: Loaded,
    /// The file itself and those beside it that it refers to.
    pub files: Vec<PathBuf>,
}

/// Reads and loads the description `file`: JSON where its name ends in `.json`, else YAML.
///
/// # Errors
///
/// [`Unreadable`] where the file itself cannot be served. Files beside it that cannot be read
/// leave out the operations that need them; the report says so.
pub fn load(file: &Path) -> Result<Described, Unreadable> {
    let document = parse(file, &bytes(file)?)?;
    let mut files = vec![file.to_owned()];
    let loaded = openapi::load(document, &mut |name| {
        let beside = beside(file, name)?;
        files.push(beside.clone());
        let bytes = bytes(&beside).map_err(|why| why.to_string())?;
        parse(&beside, &bytes).map_err(|why| why.to_string())
    })?;
    Ok(Described { loaded, files })
}

/// A file of the same directory, which no link leads out of.
fn beside(file: &Path, name: &str) -> Result<PathBuf, String> {
    let plain = Path::new(name).file_name().is_some_and(|last| last == name);
    if !plain {
        return Err("only files beside the document are read".to_owned());
    }
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let real = |path: &Path| path.canonicalize().map_err(|why| why.to_string());
    let (inside, target) = (real(directory)?, real(&directory.join(name))?);
    // Mounted directories link each file to where it lies: `..data/file` is still inside.
    if target.starts_with(&inside) {
        Ok(directory.join(name))
    } else {
        Err("it is a link out of the directory of the document".to_owned())
    }
}

/// A file of the size that descriptions have.
pub(super) fn bytes(file: &Path) -> Result<Vec<u8>, Unreadable> {
    let open = || {
        let found = fs::metadata(file)?;
        if !found.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(file)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(Unreadable::File)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unreadable::TooLarge);
    }
    Ok(bytes)
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Value, Unreadable> {
    let syntax = |why: String| Unreadable::Syntax(why);
    let Document(value) = if file
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        Document::from_json(bytes).map_err(|why| syntax(why.to_string()))?
    } else {
        let text = std::str::from_utf8(bytes).map_err(|why| syntax(why.to_string()))?;
        serde_saphyr::from_str_with_options(text, yaml())
            .map_err(|why| syntax(why.without_snippet().to_string()))?
    };
    Ok(value)
}

/// YAML within the bounds of a large description; a name twice in one mapping is an error. `no` and
/// `n` are words, as YAML 1.2 has them, and as a list of countries or a parameter needs them.
fn yaml() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_nodes: 4_000_000,
            max_events: 16_000_000,
            max_depth: MAX_DOCUMENT_DEPTH,
            max_documents: 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const YAML: &str = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths:\n  /a:\n    get:\n      \
                        operationId: a\n      parameters: [{$ref: 'parts.json#/n'}]\n";
    const PARTS: &str = r#"{"n": {"name": "n", "in": "query", "schema": {"type": "integer"}}}"#;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn left_out(described: &Described) -> Vec<String> {
        let report = &described.loaded.report;
        report.left_out().map(|(_, why)| why.to_owned()).collect()
    }

    #[test]
    fn a_description_is_read_with_the_files_beside_it() {
        let directory = written(&[("api.yaml", YAML), ("parts.json", PARTS)]);
        let file = directory.path().join("api.yaml");
        let described = load(&file).unwrap();
        assert_eq!(left_out(&described), Vec::<String>::new());
        assert_eq!(described.files, [file, directory.path().join("parts.json")]);
    }

    #[test]
    fn a_link_out_of_the_directory_is_not_followed() {
        let elsewhere = written(&[("parts.json", PARTS)]);
        let directory = written(&[("api.yaml", YAML)]);
        let link = directory.path().join("parts.json");
        symlink(elsewhere.path().join("parts.json"), &link).unwrap();
        let found = left_out(&load(&directory.path().join("api.yaml")).unwrap());
        assert!(found[0].contains("link out of"), "{found:?}");
        fs::remove_file(&link).unwrap();
        fs::create_dir(directory.path().join("..data")).unwrap();
        fs::write(directory.path().join("..data/parts.json"), PARTS).unwrap();
        symlink("..data/parts.json", &link).unwrap();
        let found = left_out(&load(&directory.path().join("api.yaml")).unwrap());
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn words_that_were_booleans_in_old_yaml_are_words() {
        let text = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths:\n  /a/{n}:\n    get:\n      \
                    operationId: a\n      parameters:\n        - {name: n, in: path, required: true, \
                    schema: {enum: [no, on, 1_0]}}\n";
        let directory = written(&[("api.yaml", text)]);
        let described = load(&directory.path().join("api.yaml")).unwrap();
        assert_eq!(left_out(&described), Vec::<String>::new());
        let api = &described.loaded.api;
        let valid = |path: &str| {
            let (operation, variables) = api.find("GET", path).unwrap();
            let request = openapi::Request {
                variables: &variables,
                query: None,
                headers: &[],
                body: b"",
            };
            let arguments = operation.decode(&request).unwrap();
            operation.schema().is_valid(&arguments)
        };
        assert!(["/a/no", "/a/on", "/a/1_0"].into_iter().all(valid));
        assert!(!["/a/false", "/a/true", "/a/10"].into_iter().any(valid));
    }

    #[test]
    fn files_that_two_readers_could_read_differently_are_not_read() {
        for (name, text) in [
            ("api.json", r#"{"openapi": "3.1.0", "openapi": "3.0.0"}"#),
            ("api.json", "openapi: 3.1.0"),
            ("api.json", r#"{"openapi": "3.1.0"} {}"#),
            ("api.yaml", "openapi: 3.1.0\nopenapi: 3.0.0\n"),
            ("api.yaml", "openapi: 3.1.0\n---\nopenapi: 3.0.0\n"),
            ("api.yaml", "openapi: [\n"),
            ("api.yaml", "a: &a [1]\nb: {<<: *a}\n"),
        ] {
            let directory = written(&[(name, text)]);
            let bad = load(&directory.path().join(name)).unwrap_err();
            assert!(!bad.is_unopened(), "{text}: {bad}");
        }
        let missing = load(Path::new("/nowhere/api.yaml")).unwrap_err();
        assert!(missing.is_unopened(), "{missing}");
        let directory = written(&[]);
        assert!(load(directory.path()).unwrap_err().is_unopened());
    }
}
