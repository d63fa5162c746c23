//! nginx as a plain proxy: two workers, a pool of upstream connections, no access log, answers passed on as they come.

use std::process::Command;

use anyhow::Result;

use super::{Backend, Place, find};
use crate::{owned::Owned, tls};

pub(super) fn start(backend: &Backend<'_>, place: &Place) -> Result<Option<Vec<Owned>>> {
    let Some(program) = find("nginx") else {
        return Ok(None);
    };
    place.file("nginx.conf", &configuration(backend, place))?;
    let mut command = Command::new(program);
    let command = command
        .arg("-p")
        .arg(place.directory.path())
        .args(["-e", "error.log", "-c", "nginx.conf"])
        .stderr(place.errors()?);
    Ok(Some(vec![Owned::spawn(command)?]))
}

fn configuration(backend: &Backend<'_>, place: &Place) -> String {
    let (address, upstream) = (place.address, backend.address);
    let (scheme, ssl, sides) = match backend.certificates {
        None => ("http", "", String::new()),
        Some(files) => {
            let (certificate, key, root) = (files.certificate(), files.key(), files.root());
            let sides = format!(
                "ssl_certificate {}; ssl_certificate_key {}; proxy_ssl_verify on; proxy_ssl_name {};\n\
                 proxy_ssl_server_name on; proxy_ssl_trusted_certificate {};",
                certificate.display(),
                key.display(),
                tls::NAME,
                root.display(),
            );
            ("https", "ssl", sides)
        }
    };
    format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 8m; client_body_buffer_size 2m;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream tools {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen {address} {ssl};
    {sides}
    location / {{
      proxy_pass {scheme}://tools; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
    }}
  }}
}}
"
    )
}
