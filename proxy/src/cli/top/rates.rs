//! What happened between two looks at the metrics page.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use serde_json::Value;

use crate::metrics::page::{families, number};

type Labels = Vec<(String, String)>;

/// One look.
#[derive(Debug)]
pub(super) struct Looked {
    at: Instant,
    /// By name and labels.
    samples: HashMap<(String, Labels), f64>,
    ready: Value,
}

impl Looked {
    /// Reads `/metrics` and `/readyz`.
    pub(super) fn new(at: Instant, page: &str, ready: &str) -> Self {
        let families = families(page);
        let samples = families.iter().flat_map(|family| &family.samples);
        let samples = samples.map(|sample| {
            let labels = sample.labels.iter();
            let labels = labels.map(|(name, value)| ((*name).to_owned(), value.clone()));
            ((sample.name.to_owned(), labels.collect()), sample.value)
        });
        Self {
            at,
            samples: samples.collect(),
            ready: serde_json::from_str(ready).unwrap_or_default(),
        }
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        let named = self
            .samples
            .iter()
            .filter(move |((known, _), _)| known == name);
        named.map(|((_, labels), value)| (labels, *value))
    }
}

fn label<'a>(labels: &'a Labels, name: &str) -> &'a str {
    let found = labels.iter().find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value)
}

/// One tool.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) calls: f64,
    pub(super) refused: f64,
    /// In seconds; none without a call.
    pub(super) mean: Option<f64>,
    pub(super) p95: Option<f64>,
}

/// A sidecar as it is now; rates are per second.
#[derive(Debug, Default)]
pub(super) struct Now {
    pub(super) calls: f64,
    pub(super) refused: f64,
    pub(super) codes: Vec<(String, f64)>,
    /// The slowest first, then the busiest.
    pub(super) tools: Vec<(String, Tool)>,
    pub(super) tasks: BTreeMap<String, f64>,
    pub(super) in_flight: BTreeMap<String, f64>,
    /// Mean of a stage, in seconds.
    pub(super) overhead: Vec<(String, f64)>,
    pub(super) written: f64,
    pub(super) unwritten: f64,
    pub(super) revision: String,
    pub(super) mode: String,
    pub(super) isolation: String,
    pub(super) version: String,
    /// What is not ready, and why; empty when all is.
    pub(super) not_ready: Vec<String>,
}

/// How much a counter grew; one that is smaller than before began anew.
fn grown(before: Option<&f64>, now: f64) -> f64 {
    match before {
        Some(before) if *before <= now => now - before,
        _ => now,
    }
}

struct Between<'a> {
    before: Option<&'a Looked>,
    now: &'a Looked,
    seconds: f64,
}

impl Between<'_> {
    /// What a counter grew by, by its labels.
    fn growth<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        self.now.of(name).map(move |(labels, value)| {
            let Some(before) = self.before else {
                return (labels, 0.0);
            };
            let key = (name.to_owned(), labels.clone());
            (labels, grown(before.samples.get(&key), value))
        })
    }

    fn rate(&self, name: &str, wanted: impl Fn(&Labels) -> bool) -> f64 {
        let all = self.growth(name).filter(|(labels, _)| wanted(labels));
        // From nought: the sum of nothing is less than that, by its sign.
        all.fold(0.0, |sum, (_, grown)| sum + grown) / self.seconds
    }
}

impl Now {
    /// Compares a look with the one before; without one all rates are nought.
    pub(super) fn between(before: Option<&Looked>, now: &Looked) -> Self {
        let passed = before.map_or(1.0, |before| (now.at - before.at).as_secs_f64());
        let between = Between {
            before,
            now,
            seconds: passed.max(0.001),
        };
        let refused = |labels: &Labels| label(labels, "outcome") != "allow";
        let gauges = |name: &str, by: &str| {
            let all = now.of(name);
            all.map(|(labels, value)| (label(labels, by).to_owned(), value))
                .collect()
        };
        let info = |name: &str, by: &str| {
            let found = now.of(name).next();
            found.map_or_else(String::new, |(labels, _)| label(labels, by).to_owned())
        };
        let records = |result| {
            between.rate("outrider_decision_log_records_total", |labels| {
                label(labels, "result") == result
            })
        };
        Self {
            calls: between.rate("outrider_calls_total", |_| true),
            refused: between.rate("outrider_calls_total", refused),
            codes: codes(&between),
            tools: tools(&between),
            tasks: gauges("outrider_tasks", "state"),
            in_flight: gauges("outrider_in_flight", "listener"),
            overhead: overhead(&between),
            written: records("written"),
            unwritten: records("refused"),
            revision: info("outrider_policy_info", "revision"),
            mode: info("outrider_policy_info", "mode"),
            isolation: info("outrider_build_info", "isolation"),
            version: info("outrider_build_info", "version"),
            not_ready: not_ready(&now.ready),
        }
    }
}

fn codes(between: &Between<'_>) -> Vec<(String, f64)> {
    let mut codes = BTreeMap::<String, f64>::new();
    for (labels, grown) in between.growth("outrider_calls_total") {
        if label(labels, "outcome") != "allow" && grown > 0.0 {
            *codes.entry(label(labels, "code").to_owned()).or_default() += grown / between.seconds;
        }
    }
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    codes
}

fn tools(between: &Between<'_>) -> Vec<(String, Tool)> {
    let name = |labels: &Labels| match (label(labels, "service"), label(labels, "tool")) {
        (service, tool) if tool.starts_with(&format!("{service}/")) => tool.to_owned(),
        (service, tool) => format!("{service}/{tool}"),
    };
    let mut tools = BTreeMap::<String, Tool>::new();
    for (labels, grown) in between.growth("outrider_calls_total") {
        let tool = tools.entry(name(labels)).or_default();
        tool.calls += grown / between.seconds;
        if label(labels, "outcome") != "allow" {
            tool.refused += grown / between.seconds;
        }
    }
    let sums: HashMap<_, _> = between
        .growth("outrider_call_duration_seconds_sum")
        .map(|(labels, grown)| (name(labels), grown))
        .collect();
    let mut buckets = HashMap::<String, Vec<(f64, f64)>>::new();
    for (labels, grown) in between.growth("outrider_call_duration_seconds_bucket") {
        let bound = number(label(labels, "le")).unwrap_or(f64::INFINITY);
        buckets
            .entry(name(labels))
            .or_default()
            .push((bound, grown));
    }
    for (name, tool) in &mut tools {
        let Some(buckets) = buckets.get_mut(name) else {
            continue;
        };
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let count = buckets.last().map_or(0.0, |(_, count)| *count);
        if count > 0.0 {
            tool.mean = sums.get(name).map(|sum| sum / count);
            tool.p95 = quantile(buckets, 0.95 * count);
        }
    }
    let mut tools: Vec<_> = tools
        .into_iter()
        .filter(|(_, tool)| tool.calls > 0.0)
        .collect();
    tools.sort_by(|(_, a), (_, b)| {
        let slow = |tool: &Tool| tool.mean.unwrap_or_default();
        slow(b)
            .total_cmp(&slow(a))
            .then(b.calls.total_cmp(&a.calls))
    });
    tools
}

/// The bound that so many observations do not exceed, within its bucket as if they were spread evenly.
fn quantile(buckets: &[(f64, f64)], rank: f64) -> Option<f64> {
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            let share = (rank - below) / (count - below).max(f64::MIN_POSITIVE);
            return Some(if bound.is_finite() {
                lower + (bound - lower) * share
            } else {
                lower
            });
        }
        (lower, below) = (*bound, *count);
    }
    None
}

fn overhead(between: &Between<'_>) -> Vec<(String, f64)> {
    let count = |stage: &str| {
        let all = between.growth("outrider_overhead_seconds_count");
        let of = all.filter(|(labels, _)| label(labels, "stage") == stage);
        of.map(|(_, grown)| grown).sum::<f64>()
    };
    let sums = between.growth("outrider_overhead_seconds_sum");
    let means = sums.filter_map(|(labels, sum)| {
        let stage = label(labels, "stage");
        let count = count(stage);
        (count > 0.0).then(|| (stage.to_owned(), sum / count))
    });
    let mut means: Vec<_> = means.collect();
    means.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    means
}

fn not_ready(ready: &Value) -> Vec<String> {
    let parts = ["policy", "identity", "log", "state"].into_iter();
    let parts = parts.filter(|part| {
        ready.get(part).and_then(|part| part.get("ready")) == Some(&Value::Bool(false))
    });
    parts
        .map(|part| {
            let why = ready.get(part).and_then(|part| part.get("detail"));
            format!(
                "{part}: {}",
                why.and_then(Value::as_str).unwrap_or_default()
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(calls: u32, refused: u32) -> String {
        format!(
            "# HELP outrider_calls_total x\n# TYPE outrider_calls_total counter\n\
             outrider_calls_total{{service=\"crm\",tool=\"crm/lookup\",outcome=\"allow\",code=\"ok\"}} {calls}\n\
             outrider_calls_total{{service=\"crm\",tool=\"crm/lookup\",outcome=\"deny\",code=\"policy_denied\"}} {refused}\n\
             # HELP outrider_call_duration_seconds x\n# TYPE outrider_call_duration_seconds histogram\n\
             outrider_call_duration_seconds_sum{{service=\"crm\",tool=\"crm/lookup\"}} {sum}\n\
             outrider_call_duration_seconds_bucket{{le=\"0.1\",service=\"crm\",tool=\"crm/lookup\"}} {calls}\n\
             outrider_call_duration_seconds_bucket{{le=\"+Inf\",service=\"crm\",tool=\"crm/lookup\"}} {calls}\n",
            sum = f64::from(calls) * 0.05,
        )
    }

    fn now(before: &str, after: &str) -> Now {
        let at = Instant::now();
        let before = Looked::new(at, before, "{}");
        let ready = r#"{"log":{"ready":false,"detail":"cannot be written"}}"#;
        Now::between(
            Some(&before),
            &Looked::new(at + Duration::from_secs(2), after, ready),
        )
    }

    #[test]
    fn rates_are_what_counters_grew_by() {
        let now = now(&page(10, 4), &page(30, 8));
        assert!((now.calls - 12.0).abs() < 1e-9 && (now.refused - 2.0).abs() < 1e-9);
        assert_eq!(now.codes, [("policy_denied".to_owned(), 2.0)]);
        let (name, tool) = &now.tools[0];
        assert_eq!(name, "crm/lookup");
        assert!((tool.mean.unwrap() - 0.05).abs() < 1e-9);
        assert!((tool.p95.unwrap() - 0.095).abs() < 1e-9);
        assert_eq!(now.not_ready, ["log: cannot be written"]);
    }

    #[test]
    fn a_counter_that_began_anew_is_not_negative() {
        let now = now(&page(1000, 100), &page(6, 2));
        assert!((now.calls - 4.0).abs() < 1e-9, "{}", now.calls);
    }

    #[test]
    fn without_a_look_before_nothing_has_a_rate() {
        let looked = Looked::new(Instant::now(), &page(5, 5), "");
        let now = Now::between(None, &looked);
        assert!(now.calls == 0.0 && now.tools.is_empty());
    }
}
