//! Lines for people: time, tool, outcome, code, decision ID, agent.

use std::ffi::OsStr;

use serde_json::Value;

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colours are for terminals, and never where `NO_COLOR` is set to something.
    pub(super) fn of(terminal: bool, no_color: Option<&OsStr>) -> Self {
        let wanted = no_color.is_none_or(OsStr::is_empty);
        if terminal && wanted {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// The word of an outcome in its colour.
    pub(super) fn outcome(self, word: &str) -> String {
        let colour = match word.trim_end() {
            "allow" => "32",
            "deny" => "31",
            _ => "33",
        };
        self.paint(colour, word)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One recorded line in one line for people.
pub(super) fn line(line: &[u8], style: Style) -> String {
    let Ok(record) = serde_json::from_slice::<Value>(line) else {
        return style.paint(
            "31",
            &format!("not JSON: {}", plain(&String::from_utf8_lossy(line))),
        );
    };
    match record.get("type").and_then(Value::as_str) {
        Some("checkpoint") => style.paint(
            "2",
            &format!(
                "{}  checkpoint at seq {}",
                text(&record, "timestamp"),
                text(&record, "seq")
            ),
        ),
        Some("outcome") => outcome(&record, style),
        _ => decision(&record, style),
    }
}

fn decision(record: &Value, style: Style) -> String {
    let outcome = text(record, "outcome");
    let mut line = [
        text(record, "timestamp"),
        format!("{:<32}", text(record, "tool")),
        style.outcome(&format!("{outcome:<11}")),
        format!("{:<22}", text(record, "code")),
        text(record, "decision_id"),
        text(record, "agent"),
    ]
    .join("  ");
    if let Some(count) = record.get("count").and_then(Value::as_u64) {
        line.extend(["  ×", &count.to_string()]);
    }
    line
}

fn outcome(record: &Value, style: Style) -> String {
    let response = |name| {
        record
            .pointer(&format!("/response/{name}"))
            .map_or_else(|| "-".to_owned(), scalar)
    };
    let (status, took) = (response("status"), response("duration_ms"));
    let ended = text(record, "ended");
    let told = format!("  answered {status} in {took} ms");
    let colour = if ended == "completed" { "2" } else { "33" };
    [
        text(record, "timestamp"),
        format!("{told:<32}"),
        style.paint(colour, &format!("{ended:<11}")),
        format!("{:<22}", text(record, "code")),
        text(record, "decision_id"),
    ]
    .join("  ")
}

/// One recorded line in full, indented.
pub(super) fn whole(line: &[u8]) -> String {
    let record = serde_json::from_slice::<Value>(line).unwrap_or_default();
    let pretty = serde_json::to_string_pretty(&record).unwrap_or_default();
    // JSON escapes C0 controls, but not what else a terminal obeys.
    pretty.lines().map(plain).collect::<Vec<_>>().join("\n")
}

fn text(record: &Value, name: &str) -> String {
    match record.get(name).map(scalar) {
        Some(text) if !text.is_empty() => text,
        _ => "-".to_owned(),
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), plain)
}

/// `text` without anything a terminal would obey: what an agent sent is shown, not played.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        let directs = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || directs {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
        out
    })
}
