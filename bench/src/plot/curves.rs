//! Curves side by side, each over a logarithmic axis and from zero up.

use super::{Drawing, colour, figure};
use crate::sample::Spread;

/// One curve: how many of something, and what was measured with so many.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) title: String,
    pub(crate) points: Vec<(f64, Spread)>,
}

/// Small multiples under one heading.
#[derive(Debug)]
pub(crate) struct Curves {
    pub(crate) heading: &'static str,
    pub(crate) curves: Vec<Curve>,
}

const HEADING: f64 = 40.0;
const COLUMNS: usize = 3;
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 34.0;
const RIGHT: f64 = 16.0;

impl Curves {
    pub(crate) fn svg(&self) -> String {
        let mut drawing = Drawing::default();
        drawing.text((14.0, 26.0), "heading", self.heading);
        for (number, curve) in self.curves.iter().enumerate() {
            let column = crate::sample::count(number % COLUMNS);
            let row = crate::sample::count(number / COLUMNS);
            let frame = Frame::new(curve, (column * WIDTH, HEADING + row * HEIGHT));
            frame.draw(&mut drawing, curve);
        }
        let rows = crate::sample::count(self.curves.len().div_ceil(COLUMNS));
        let columns = crate::sample::count(self.curves.len().min(COLUMNS));
        drawing.whole(columns * WIDTH, HEADING + rows * HEIGHT)
    }
}

/// Where a curve is drawn.
struct Frame {
    at: (f64, f64),
    first: f64,
    last: f64,
    most: f64,
}

impl Frame {
    fn new(curve: &Curve, at: (f64, f64)) -> Self {
        let numbers = || curve.points.iter().map(|(number, _)| *number);
        let most = curve.points.iter().map(|(_, spread)| spread.high);
        Self {
            at,
            first: numbers().fold(f64::INFINITY, f64::min),
            last: numbers().fold(0.0, f64::max),
            most: 4.0 * round(most.fold(0.0, f64::max) / 4.0),
        }
    }

    fn x(&self, number: f64) -> f64 {
        let whole = (self.last / self.first).ln().max(f64::MIN_POSITIVE);
        let share = (number / self.first).ln() / whole;
        self.at.0 + LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = value / self.most.max(f64::MIN_POSITIVE);
        self.at.1 + HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, drawing: &mut Drawing, curve: &Curve) {
        let (left, right) = (self.at.0 + LEFT, self.at.0 + WIDTH - RIGHT);
        drawing.text(
            (self.at.0 + 14.0, self.at.1 + 22.0),
            "heading",
            &curve.title,
        );
        for quarter in 0..=4 {
            let value = self.most * f64::from(quarter) / 4.0;
            let y = self.y(value);
            drawing.line((left, y), (right, y), "#dfe3e6", 1.0);
            drawing.text((left - 6.0, y + 3.5), "side", &figure(value));
        }
        let mut before: Option<(f64, f64)> = None;
        for (number, spread) in &curve.points {
            let at = (self.x(*number), self.y(spread.median));
            let bottom = self.at.1 + HEIGHT - BOTTOM;
            drawing.text((at.0, bottom + 16.0), "tick", &short(*number));
            drawing.line(
                (at.0, self.y(spread.low)),
                (at.0, self.y(spread.high)),
                "#8a949c",
                1.5,
            );
            if let Some(before) = before {
                drawing.line(before, at, colour(5), 2.0);
            }
            drawing.add(&format!(
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{}"/>"#,
                at.0,
                at.1,
                colour(5)
            ));
            before = Some(at);
        }
    }
}

/// The next larger of 1, 2, 2.5, 5 times a power of ten, or 3, 4, 6, 8 of them.
fn round(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

/// A number in a few characters.
fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.0}G", number / 1e9),
        1e6.. => format!("{:.0}M", number / 1e6),
        1e4.. => format!("{:.0}k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}
