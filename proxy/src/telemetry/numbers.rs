//! The metrics page as OTLP: counters as cumulative sums, histograms with their bounds, the rest as
//! gauges; exemplars go along.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric::Data,
        number_data_point::Value,
    },
};
use prost::Message as _;

use super::{
    Standing,
    otlp::{SCHEMA, attribute, resource, scope, text},
    ship::Batch,
};
use crate::record::said::unhex;

/// A whole page, told as it stood `now`, counted since `began`; none of an empty one.
pub(super) fn message(
    page: &str,
    standing: &Standing,
    began: Timestamp,
    now: Timestamp,
) -> Option<Batch> {
    let times = (nanos(began), nanos(now));
    let metrics: Vec<_> = families(page)
        .into_iter()
        .map(|one| one.into_metric(times))
        .collect();
    let count = metrics.len();
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(standing)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics,
                schema_url: SCHEMA.into(),
            }],
            schema_url: SCHEMA.into(),
        }],
    };
    Batch::of(request.encode_to_vec(), count)
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<Sample<'a>>,
}

/// One line of the page.
#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
    exemplar: Option<Exemplar>,
}

/// The families of a page of ours (`OpenMetrics` 1.0.0).
fn families(page: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in page.lines() {
        let told = line
            .strip_prefix("# ")
            .map(|rest| rest.splitn(3, ' ').collect::<Vec<_>>());
        match told.as_deref() {
            Some([word @ ("HELP" | "TYPE"), name, rest]) => {
                if families.last().is_none_or(|family| family.name != *name) {
                    families.push(Family {
                        name,
                        ..Family::default()
                    });
                }
                if let Some(family) = families.last_mut() {
                    let place = if *word == "HELP" {
                        &mut family.help
                    } else {
                        &mut family.kind
                    };
                    *place = rest;
                }
            }
            Some(_) => {}
            None => {
                if let (Some(family), Some(sample)) = (families.last_mut(), sample(line)) {
                    family.samples.push(sample);
                }
            }
        }
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (line, exemplar) = match line.split_once(" # ") {
        Some((line, exemplar)) => (line, exemplar_of(exemplar)),
        None => (line, None),
    };
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labelled(labels.strip_suffix('}')?)?),
        None => (head, Vec::new()),
    };
    Some(Sample {
        name,
        labels,
        value: number(value)?,
        exemplar,
    })
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| !value.is_nan())
}

/// `name="value",…`, with the escapes undone.
fn labelled(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.trim_start_matches(','), value));
        text = rest.get(end + 1..)?;
    }
    Some(labels)
}

/// `{trace_id="…",span_id="…"} value time`.
fn exemplar_of(text: &str) -> Option<Exemplar> {
    let (labels, rest) = text.strip_prefix('{')?.split_once('}')?;
    let labels = labelled(labels)?;
    let of = |name| {
        let found = labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| unhex(value)).unwrap_or_default()
    };
    let mut rest = rest.split_whitespace();
    let value = number(rest.next()?)?;
    let time = rest.next().and_then(number).and_then(|seconds| {
        Timestamp::from_nanosecond(0)
            .ok()?
            .checked_add(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?)
            .ok()
    });
    Some(Exemplar {
        time_unix_nano: time.map_or(0, nanos),
        trace_id: of("trace_id"),
        span_id: of("span_id"),
        value: Some(exemplar::Value::AsDouble(value)),
        ..Exemplar::default()
    })
}

impl Family<'_> {
    fn into_metric(self, times: (u64, u64)) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let unit = match self.name {
            name if name.ends_with("_seconds") => "s",
            name if name.ends_with("_bytes") => "By",
            _ => "1",
        };
        let (name, description) = (self.name.to_owned(), self.help.to_owned());
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.points(times),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(times),
                aggregation_temporality: cumulative,
            }),
            _ => Data::Gauge(Gauge {
                data_points: self.points((0, times.1)),
            }),
        };
        Metric {
            name,
            description,
            unit: unit.into(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn points(&self, (began, now): (u64, u64)) -> Vec<NumberDataPoint> {
        let points = self.samples.iter().map(|sample| NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: began,
            time_unix_nano: now,
            value: Some(Value::AsDouble(sample.value)),
            exemplars: sample.exemplar.clone().into_iter().collect(),
            ..NumberDataPoint::default()
        });
        points.collect()
    }

    fn histograms(&self, (began, now): (u64, u64)) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<Vec<(&str, &str)>, HistogramDataPoint> = BTreeMap::new();
        for sample in &self.samples {
            let others = sample.labels.iter().filter(|(name, _)| *name != "le");
            let key = others
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let point = points.entry(key).or_insert_with(|| HistogramDataPoint {
                attributes: attributes(&sample.labels),
                start_time_unix_nano: began,
                time_unix_nano: now,
                ..HistogramDataPoint::default()
            });
            match sample.name.rsplit_once('_').map(|(_, suffix)| suffix) {
                Some("sum") => point.sum = Some(sample.value),
                Some("count") => point.count = whole(sample.value),
                Some("bucket") => bucket(point, sample),
                _ => {}
            }
        }
        points.into_values().collect()
    }
}

/// Adds a bucket; on the page each holds those below it as well.
fn bucket(point: &mut HistogramDataPoint, sample: &Sample<'_>) {
    let below: u64 = point.bucket_counts.iter().sum();
    point
        .bucket_counts
        .push(whole(sample.value).saturating_sub(below));
    let bound = sample.labels.iter().find(|(name, _)| *name == "le");
    if let Some(bound) = bound
        .and_then(|(_, bound)| number(bound))
        .filter(|bound| bound.is_finite())
    {
        point.explicit_bounds.push(bound);
    }
    point.exemplars.extend(sample.exemplar.clone());
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, far below 2^53"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    let others = labels.iter().filter(|(name, _)| *name != "le");
    others
        .map(|(name, value)| attribute(name, text(value)))
        .collect()
}
