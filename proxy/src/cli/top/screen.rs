//! What is shown: lines that fit a terminal, or one JSON object.

use std::{fmt::Write as _, io, net::SocketAddr};

use serde_json::{Value, json};

use super::rates::Now;

/// Of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The whole page, no line longer and no more lines than fit.
pub(super) fn page(admin: SocketAddr, now: &io::Result<Now>, size: Size) -> Vec<String> {
    let mut lines = vec![format!("outrider top  http://{admin}")];
    match now {
        Err(error) => lines.extend([String::new(), format!("nobody answers there: {error}")]),
        Ok(now) => body(now, size, &mut lines),
    }
    lines.truncate(size.rows);
    let cut = |line: String| line.chars().take(size.columns).collect();
    lines.into_iter().map(cut).collect()
}

fn body(now: &Now, size: Size, lines: &mut Vec<String>) {
    if let Some(first) = lines.first_mut() {
        let _infallible = write!(
            first,
            "  version {}  isolation {}",
            now.version, now.isolation
        );
    }
    let revision: String = now.revision.chars().take(12).collect();
    lines.push(match now.not_ready.as_slice() {
        [] => format!("ready  policy {revision} {}", now.mode),
        why => format!("NOT READY  {}", why.join("; ")),
    });
    lines.push(String::new());
    lines.push(format!(
        "calls {}/s   refused {}/s   in flight {}   log {}/s{}",
        rate(now.calls),
        rate(now.refused),
        listed(
            now.in_flight
                .iter()
                .map(|(name, count)| format!("{name} {count:.0}"))
        ),
        rate(now.written),
        if now.unwritten > 0.0 {
            format!("   NOT WRITTEN {}/s", rate(now.unwritten))
        } else {
            String::new()
        },
    ));
    let tasks = now.tasks.iter().filter(|(_, count)| **count > 0.0);
    lines.push(format!(
        "tasks {}",
        listed(tasks.map(|(state, count)| format!("{state} {count:.0}")))
    ));
    lines.push(format!(
        "took  {}",
        listed(
            now.overhead
                .iter()
                .map(|(stage, mean)| format!("{stage} {}", span(*mean)))
        )
    ));
    lines.push(format!(
        "refused by code  {}",
        listed(
            now.codes
                .iter()
                .map(|(code, many)| format!("{code} {}/s", rate(*many)))
        )
    ));
    lines.push(String::new());
    let wide = size.columns.saturating_sub(40).clamp(12, 48);
    lines.push(format!(
        "{:<wide$} {:>9} {:>9} {:>8} {:>8}",
        "TOOL, SLOWEST FIRST", "CALLS/S", "REFUSED/S", "MEAN", "P95"
    ));
    for (name, tool) in &now.tools {
        let name: String = name.chars().take(wide).collect();
        let took = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), span);
        lines.push(format!(
            "{name:<wide$} {:>9} {:>9} {:>8} {:>8}",
            rate(tool.calls),
            rate(tool.refused),
            took(tool.mean),
            took(tool.p95),
        ));
    }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join("  ")
    }
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.1}")
    }
}

/// Seconds as people read them.
fn span(seconds: f64) -> String {
    match seconds * 1e6 {
        micros if micros < 1e3 => format!("{micros:.0}us"),
        micros if micros < 1e5 => format!("{:.1}ms", micros / 1e3),
        micros if micros < 1e7 => format!("{:.0}ms", micros / 1e3),
        micros => format!("{:.0}s", micros / 1e6),
    }
}

/// One object, units in its names.
pub(super) fn json(admin: SocketAddr, now: &io::Result<Now>) -> Value {
    let now = match now {
        Ok(now) => now,
        Err(error) => {
            return json!({ "admin": admin.to_string(), "up": false, "error": error.to_string() });
        }
    };
    let tools = now.tools.iter().map(|(name, tool)| {
        json!({
            "tool": name, "calls_per_s": tool.calls, "refused_per_s": tool.refused,
            "mean_s": tool.mean, "p95_s": tool.p95,
        })
    });
    let pairs = |pairs: &[(String, f64)]| -> Value {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "admin": admin.to_string(),
        "up": true,
        "ready": now.not_ready.is_empty(),
        "not_ready": now.not_ready,
        "calls_per_s": now.calls,
        "refused_per_s": now.refused,
        "refused_by_code_per_s": pairs(&now.codes),
        "in_flight": now.in_flight,
        "tasks": now.tasks,
        "overhead_mean_s": pairs(&now.overhead),
        "records_per_s": now.written,
        "records_refused_per_s": now.unwritten,
        "policy": { "revision": now.revision, "mode": now.mode },
        "isolation": now.isolation,
        "version": now.version,
        "tools": tools.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::Tool;

    fn some() -> Now {
        Now {
            calls: 123.4,
            refused: 1.25,
            codes: vec![("policy_denied".into(), 1.0), ("rate_limited".into(), 0.25)],
            tools: (0..40)
                .map(|at| {
                    let tool = Tool {
                        calls: 3.0,
                        refused: 0.0,
                        mean: Some(0.012),
                        p95: None,
                    };
                    (format!("crm/a-tool-with-a-long-name-{at}"), tool)
                })
                .collect(),
            tasks: [("active".to_owned(), 2.0), ("revoked".to_owned(), 0.0)].into(),
            in_flight: [("reverse".to_owned(), 1.0)].into(),
            overhead: vec![("total".into(), 0.000_12)],
            written: 246.8,
            revision: "69dd3f5e664308c4".into(),
            mode: "enforce".into(),
            isolation: "uid".into(),
            version: "0.1.0".into(),
            ..Now::default()
        }
    }

    #[test]
    fn a_page_fits_every_terminal() {
        let admin = "127.0.0.1:15000".parse().unwrap();
        for size in [
            Size {
                columns: 60,
                rows: 15,
            },
            Size {
                columns: 20,
                rows: 3,
            },
            Size {
                columns: 200,
                rows: 60,
            },
        ] {
            let lines = page(admin, &Ok(some()), size);
            assert!(lines.len() <= size.rows);
            assert!(
                lines
                    .iter()
                    .all(|line| line.chars().count() <= size.columns)
            );
        }
        insta::assert_snapshot!(
            page(
                admin,
                &Ok(some()),
                Size {
                    columns: 90,
                    rows: 12
                }
            )
            .join("\n")
        );
        let gone = Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        insta::assert_snapshot!(
            page(
                admin,
                &gone,
                Size {
                    columns: 90,
                    rows: 12
                }
            )
            .join("\n")
        );
    }
}
