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
use crate::{
    metrics::page::{Family, Sample, families, labelled, number},
    record::said::unhex,
};

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
            exemplars: sample.exemplar.and_then(exemplar_of).into_iter().collect(),
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
    point
        .exemplars
        .extend(sample.exemplar.and_then(exemplar_of));
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
