//! The runtimes that are asked: where each is found, how it makes one call, what is known of it.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The package that is asked for, which only the target has.
pub(super) const PACKAGE: &str = "outrider-doctor";

/// Something that agents make calls with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Runtime {
    Curl,
    Wget,
    PythonUrllib,
    PythonRequests,
    PythonHttpx,
    PythonAiohttp,
    NodeFetch,
    NodeHttp,
    Go,
    Git,
    Pip,
    Npm,
}

/// What a call of a runtime asks for: each has an answer that it understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asks {
    /// A page.
    Page,
    /// The branches of a repository.
    Branches,
    /// An index of Python packages.
    Index,
    /// A registry of JavaScript packages.
    Registry,
}

impl Asks {
    /// What the runtime is pointed at, below a path of the call's own.
    pub(super) const fn below(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Branches => "repository.git",
            Self::Index => "simple/",
            Self::Registry => "",
        }
    }
}

const URLLIB: &str = "import sys, urllib.request as client
print(client.urlopen(sys.argv[1]).read().decode())";
const REQUESTS: &str = "import sys, requests
print(requests.get(sys.argv[1]).text)";
const HTTPX: &str = "import sys, httpx
print(httpx.get(sys.argv[1]).text)";
const AIOHTTP: &str = "import asyncio, sys, aiohttp
async def ask():
    async with aiohttp.ClientSession() as session:
        async with session.get(sys.argv[1]) as answer:
            print(await answer.text())
asyncio.run(ask())";
const FETCH: &str = "fetch(process.argv[1]).then(answer => answer.text()).then(console.log)
    .catch(error => { console.error(String(error.cause ?? error)); process.exitCode = 1 })";
const NODE_HTTP: &str = "const url = process.argv[1]
require(url.startsWith('https:') ? 'https' : 'http').get(url, answer => answer.pipe(process.stdout))
    .on('error', error => { console.error(String(error)); process.exitCode = 1 })";
/// A Go program that makes one call.
pub(super) const GO: &str = r#"package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, answer.Body)
}
"#;

impl Runtime {
    pub(super) const ALL: [Self; 12] = [
        Self::Curl,
        Self::Wget,
        Self::PythonUrllib,
        Self::PythonRequests,
        Self::PythonHttpx,
        Self::PythonAiohttp,
        Self::NodeFetch,
        Self::NodeHttp,
        Self::Go,
        Self::Git,
        Self::Pip,
        Self::Npm,
    ];

    /// The word for it, here and on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::PythonUrllib => "python-urllib",
            Self::PythonRequests => "python-requests",
            Self::PythonHttpx => "python-httpx",
            Self::PythonAiohttp => "python-aiohttp",
            Self::NodeFetch => "node-fetch",
            Self::NodeHttp => "node-http",
            Self::Go => "go",
            Self::Git => "git",
            Self::Pip => "pip",
            Self::Npm => "npm",
        }
    }

    /// Its programs, the one that is preferred first.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Curl => &["curl"],
            Self::Wget => &["wget"],
            Self::PythonUrllib | Self::PythonRequests | Self::PythonHttpx | Self::PythonAiohttp => {
                &["python3", "python"]
            }
            Self::NodeFetch | Self::NodeHttp => &["node"],
            Self::Go => &["go"],
            Self::Git => &["git"],
            Self::Pip => &["pip", "pip3"],
            Self::Npm => &["npm"],
        }
    }

    /// Finds its program in the directories of `PATH`.
    pub(super) fn find(self, path: Option<&OsString>) -> Option<PathBuf> {
        let directories: Vec<_> = std::env::split_paths(path?).collect();
        self.programs().iter().find_map(|program| {
            let mut places = directories.iter().map(|directory| directory.join(program));
            places.find(|place| is_executable(place))
        })
    }

    /// Arguments with which its program says a version, and fails where the runtime is not there.
    pub(super) const fn asked_for_version(self) -> &'static [&'static str] {
        match self {
            Self::Curl | Self::Wget | Self::Git | Self::Pip | Self::Npm | Self::NodeHttp => {
                &["--version"]
            }
            Self::PythonUrllib => &[
                "-c",
                "import platform, ssl, urllib.request; print(platform.python_version())",
            ],
            Self::PythonRequests => &["-c", "import requests; print(requests.__version__)"],
            Self::PythonHttpx => &["-c", "import httpx; print(httpx.__version__)"],
            Self::PythonAiohttp => &["-c", "import aiohttp; print(aiohttp.__version__)"],
            Self::NodeFetch => &["-e", "fetch; console.log(process.version)"],
            Self::Go => &["version"],
        }
    }

    /// What its call asks for.
    pub(super) const fn asks(self) -> Asks {
        match self {
            Self::Curl
            | Self::Wget
            | Self::PythonUrllib
            | Self::PythonRequests
            | Self::PythonHttpx
            | Self::PythonAiohttp
            | Self::NodeFetch
            | Self::NodeHttp
            | Self::Go => Asks::Page,
            Self::Git => Asks::Branches,
            Self::Pip => Asks::Index,
            Self::Npm => Asks::Registry,
        }
    }

    /// The arguments of one call. What it has to write goes into a directory of its own.
    pub(super) fn call(self, url: &str, scratch: &Path) -> Vec<OsString> {
        let words: Vec<OsString> = match self {
            Self::Curl => words(&["-sS", url]),
            Self::Wget => words(&["-nv", "-O", "-", "--tries=1", url]),
            Self::PythonUrllib => words(&["-c", URLLIB, url]),
            Self::PythonRequests => words(&["-c", REQUESTS, url]),
            Self::PythonHttpx => words(&["-c", HTTPX, url]),
            Self::PythonAiohttp => words(&["-c", AIOHTTP, url]),
            Self::NodeFetch => words(&["-e", FETCH, url]),
            Self::NodeHttp => words(&["-e", NODE_HTTP, url]),
            Self::Go => words(&[url]),
            Self::Git => words(&["ls-remote", url]),
            Self::Pip => {
                let mut words = words(&["index", "versions", PACKAGE, "--no-input"]);
                words.extend(["--disable-pip-version-check", "--retries", "0"].map(Into::into));
                words.extend(["--index-url", url].map(Into::into));
                words
            }
            Self::Npm => {
                let mut words = words(&["view", PACKAGE, "version"]);
                words.extend(["--fetch-retries=0", "--logs-max=0"].map(Into::into));
                words
                    .extend(["--no-update-notifier", "--registry", url, "--cache"].map(Into::into));
                words.push(scratch.into());
                words
            }
        };
        words
    }

    /// Variables without which its call would wait for somebody, or ask elsewhere.
    pub(super) const fn besides(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Git => &[("GIT_TERMINAL_PROMPT", "0")],
            Self::Go => &[
                ("CGO_ENABLED", "0"),
                ("GOFLAGS", "-mod=mod"),
                ("GOPROXY", "off"),
                ("GOTOOLCHAIN", "local"),
            ],
            Self::Curl
            | Self::Wget
            | Self::PythonUrllib
            | Self::PythonRequests
            | Self::PythonHttpx
            | Self::PythonAiohttp
            | Self::NodeFetch
            | Self::NodeHttp
            | Self::Pip
            | Self::Npm => &[],
        }
    }

    /// What may keep it from using the proxy.
    pub(super) const fn goes_round(self) -> &'static str {
        match self {
            Self::NodeFetch | Self::NodeHttp => {
                "Node reads the proxy's variables with `NODE_USE_ENV_PROXY=1` from 22.21 and 24.5 on; \
                 before, give undici's `ProxyAgent` the URL in HTTPS_PROXY"
            }
            Self::PythonAiohttp => "aiohttp reads them with `ClientSession(trust_env=True)`",
            Self::Curl => "does a `.curlrc` name another proxy?",
            Self::Wget => "does a `.wgetrc` say `use_proxy = off`?",
            Self::Git => "does `git config http.proxy` name another one?",
            Self::Pip => "does `pip config` name another proxy?",
            Self::Npm => "does `npm config` name another proxy?",
            Self::PythonUrllib | Self::PythonRequests | Self::PythonHttpx | Self::Go => {
                "is it the program that you take it for?"
            }
        }
    }

    /// The variable that names what it trusts, and what may override it.
    pub(super) const fn trusts(self) -> &'static str {
        match self {
            Self::Curl => "CURL_CA_BUNDLE, unless a `.curlrc` names another `cacert`",
            Self::Wget => {
                "SSL_CERT_FILE where it is built with OpenSSL; else `ca_certificate` in `.wgetrc`"
            }
            Self::PythonUrllib | Self::PythonHttpx | Self::PythonAiohttp | Self::Go => {
                "SSL_CERT_FILE, unless the program brings a context of its own"
            }
            Self::PythonRequests => "REQUESTS_CA_BUNDLE, unless the program says `verify`",
            Self::NodeFetch | Self::NodeHttp => "NODE_EXTRA_CA_CERTS, read when Node starts",
            Self::Git => "GIT_SSL_CAINFO, where it is built with OpenSSL or GnuTLS",
            Self::Pip => "PIP_CERT, unless its command line says `--cert`",
            Self::Npm => "NPM_CONFIG_CAFILE, unless its command line says `--cafile` or `--ca`",
        }
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn is_executable(place: &Path) -> bool {
    let found = std::fs::metadata(place);
    found.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The version in what a program says of itself: the first word that is one.
pub(super) fn version(said: &str) -> Option<String> {
    let mut words = said.split_whitespace();
    words.find_map(|word| {
        let word = word
            .trim_start_matches("go")
            .trim_start_matches('v')
            .trim_end_matches(',');
        let begins = word.starts_with(|first: char| first.is_ascii_digit());
        (begins && word.len() < 40).then(|| word.to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_version_is_the_first_word_that_is_one() {
        for (said, is) in [
            (
                "curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1",
                Some("7.88.1"),
            ),
            ("go version go1.26.8 linux/amd64", Some("1.26.8")),
            ("v20.20.2\n", Some("20.20.2")),
            ("git version 2.34.2", Some("2.34.2")),
            ("GNU Wget 1.21.3 built on linux-gnu.", Some("1.21.3")),
            ("no such command", None),
        ] {
            assert_eq!(version(said).as_deref(), is, "{said}");
        }
    }

    #[test]
    fn every_runtime_is_asked_by_the_name_that_it_is_told_by() {
        let words: Vec<_> = Runtime::value_variants()
            .iter()
            .map(|one| one.to_possible_value().unwrap().get_name().to_owned())
            .collect();
        assert_eq!(words, Runtime::ALL.map(Runtime::name));
    }

    #[test]
    fn a_program_is_found_where_the_path_says_and_may_be_executed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(one.path().join("curl"), "").unwrap();
        let runs = other.path().join("curl");
        std::fs::write(&runs, "").unwrap();
        std::fs::set_permissions(&runs, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::join_paths([one.path(), other.path()]).unwrap();
        assert_eq!(Runtime::Curl.find(Some(&path)), Some(runs));
        assert_eq!(Runtime::Npm.find(Some(&path)), None);
        assert_eq!(Runtime::Curl.find(None), None);
    }
}
