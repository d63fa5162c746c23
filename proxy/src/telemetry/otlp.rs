//! The forms that all messages of OTLP share (opentelemetry-proto 1.x).

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use super::Standing;

/// Whose names the attributes follow: where it is documented.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

pub(super) fn text(value: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(value.to_owned())),
    }
}

/// An attribute of text, where there is any.
pub(super) fn said(key: &'static str, value: &str) -> Option<KeyValue> {
    (!value.is_empty()).then(|| attribute(key, text(value)))
}

/// An attribute of a number.
pub(super) fn number(key: &'static str, value: u64) -> KeyValue {
    let value = Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX));
    attribute(key, AnyValue { value: Some(value) })
}

pub(super) fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// Who tells it.
pub(super) fn resource(standing: &Standing) -> Resource {
    let attributes = [
        ("service.name", "outrider"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", &standing.instance),
        ("deployment.environment.name", &standing.environment),
        ("outrider.agent", &standing.agent),
    ];
    let attributes = attributes.into_iter();
    Resource {
        attributes: attributes
            .filter_map(|(key, value)| said(key, value))
            .collect(),
        ..Resource::default()
    }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "outrider".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}
