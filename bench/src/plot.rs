//! Plots as SVG: bars with their spread, and curves side by side.

mod curves;

pub(crate) use curves::{Curve, Curves};

use crate::sample::Spread;

/// One bar and the extremes it stands between.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: &'static str,
    pub(crate) spread: Spread,
}

/// Groups of bars, one below the other, each group to a scale of its own.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    groups: Vec<(String, Vec<Bar>)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 120.0;
const LINE: f64 = 22.0;
const HEADING: f64 = 38.0;
const COLOURS: [&str; 8] = [
    "#5b6770", "#4e9a6b", "#3b7dbf", "#b07d2b", "#a0527c", "#d1495b", "#e07a5f", "#e8a598",
];

impl Bars {
    /// Adds a group, unless it is empty.
    pub(crate) fn group(&mut self, title: &str, bars: Vec<Bar>) {
        if !bars.is_empty() {
            self.groups.push((title.to_owned(), bars));
        }
    }

    pub(crate) fn svg(&self) -> String {
        let mut labels: Vec<&str> = Vec::new();
        let mut drawing = Drawing::default();
        let mut y = 0.0;
        for (title, bars) in &self.groups {
            drawing.text((16.0, y + 26.0), "heading", title);
            y += HEADING;
            let most = bars.iter().map(|bar| bar.spread.high).fold(0.0, f64::max);
            for bar in bars {
                if !labels.contains(&bar.label) {
                    labels.push(bar.label);
                }
                let place = labels.iter().position(|label| *label == bar.label);
                drawing.bar(bar, y, most, colour(place.unwrap_or_default()));
                y += LINE;
            }
        }
        drawing.whole(WIDTH, y + 16.0)
    }
}

/// The colour of the thing of that number.
fn colour(number: usize) -> &'static str {
    COLOURS.into_iter().cycle().nth(number).unwrap_or("#5b6770")
}

/// The elements of a picture.
#[derive(Debug, Default)]
struct Drawing(String);

impl Drawing {
    fn bar(&mut self, bar: &Bar, y: f64, most: f64, colour: &str) {
        let scale = |value: f64| {
            LEFT + value.max(0.0) / most.max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT)
        };
        let (low, median, high) = (bar.spread.low, bar.spread.median, bar.spread.high);
        let middle = y + LINE / 2.0;
        self.text((LEFT - 8.0, middle + 4.0), "label", bar.label);
        self.add(&format!(
            r#"<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
            y + 3.0,
            scale(median) - LEFT,
            LINE - 6.0,
        ));
        self.line((scale(low), middle), (scale(high), middle), "#22262a", 1.5);
        self.text((scale(high) + 8.0, middle + 4.0), "value", &figure(median));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.add(&format!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    fn text(&mut self, at: (f64, f64), class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.add(&format!(
            r#"<text x="{:.1}" y="{:.1}" class="{class}">{text}</text>"#,
            at.0, at.1
        ));
    }

    fn add(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    /// The picture, on white.
    fn whole(&self, width: f64, height: f64) -> String {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12" fill="#22262a">
<style>.heading{{font-size:14px;font-weight:bold}}.title{{font-weight:bold}}.label{{text-anchor:end}}.value{{font-size:11px}}.tick{{font-size:10px;text-anchor:middle;fill:#5b6770}}.side{{font-size:10px;text-anchor:end;fill:#5b6770}}</style>
<rect width="{width}" height="{height}" fill="#ffffff"/>
{}</svg>
"##,
            self.0
        )
    }
}

/// A figure with as many digits as say something.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
