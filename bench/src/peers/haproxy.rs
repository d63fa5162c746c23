//! `HAProxy` as a plain proxy: two threads, upstream connections shared, no log.

use std::process::Command;

use anyhow::Result;

use super::{Backend, Place, find};
use crate::{owned::Owned, tls};

pub(super) fn start(backend: &Backend<'_>, place: &Place) -> Result<Option<Vec<Owned>>> {
    let Some(program) = find("haproxy") else {
        return Ok(None);
    };
    let file = place.file("haproxy.cfg", &configuration(backend, place))?;
    let mut command = Command::new(program);
    let command = command.arg("-q").arg("-f").arg(file);
    Ok(Some(vec![Owned::spawn(command.stderr(place.errors()?))?]))
}

fn configuration(backend: &Backend<'_>, place: &Place) -> String {
    let (front, back) = match backend.certificates {
        None => (String::new(), String::new()),
        Some(files) => (
            format!("ssl crt {}", files.both().display()),
            format!(
                "ssl verify required ca-file {} verifyhost {} sni str({})",
                files.root().display(),
                tls::NAME,
                tls::NAME
            ),
        ),
    };
    format!(
        "global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend agents
  bind {} {front}
  default_backend tools
backend tools
  server tools {} {back}
",
        place.address, backend.address
    )
}
