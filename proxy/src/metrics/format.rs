//! The two forms of the page, and which one a scraper gets.

/// How the page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format an `Accept` header prefers (RFC 9110 §12.5.1); Prometheus text when it is silent.
    pub fn accepted(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let weight = match parts
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "application/openmetrics-text" => &mut open,
                "text/plain" | "text/*" | "*/*" => &mut text,
                _ => continue,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(Ok(1.0), str::parse::<f32>);
            *weight = f32::max(*weight, quality.unwrap_or_default());
        }
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The page's media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Rewrites an `OpenMetrics` page as Prometheus text: there the family of a counter carries its
/// suffix, an info is a gauge, and there is neither unit nor end mark.
pub(super) fn to_prometheus(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let mut help = None;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').map(|(_, text)| text);
        } else if let Some((family, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let help = help.take().unwrap_or_default();
            out.extend([
                "# HELP ",
                family,
                suffix,
                " ",
                help,
                "\n# TYPE ",
                family,
                suffix,
                " ",
                kind,
                "\n",
            ]);
        } else if !line.starts_with('#') {
            // Exemplars are of the other format.
            let line = line.split_once(" # {").map_or(line, |(line, _)| line);
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
