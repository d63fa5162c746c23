//! A line of a log as a log record of OTLP: its text as it stands, so that the chain can be checked
//! wherever it went, and beside it what one searches by.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message as _;

use super::{
    Standing,
    otlp::{SCHEMA, resource, said, scope, text},
    ship::{Batch, Batches},
};
use crate::record::said::{Line, unhex};

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Decisions,
    Security,
}

/// Lines on their way.
#[derive(Debug)]
pub(super) struct Logs {
    resource: Resource,
    kind: Kind,
    records: Vec<LogRecord>,
}

impl Logs {
    pub(super) fn new(standing: &Standing, kind: Kind) -> Self {
        Self {
            resource: resource(standing),
            kind,
            records: Vec::new(),
        }
    }

    fn record(&self, line: &[u8]) -> LogRecord {
        let read = Line::read(line).unwrap_or_default();
        let (severity, word) = self.severity(&read);
        let name = match self.kind {
            Kind::Decisions => format!("outrider.{}", read.kind),
            Kind::Security => format!("outrider.security.{}", read.kind),
        };
        let attributes = [
            said("outrider.decision.id", &read.decision_id),
            said("outrider.decision.outcome", &read.outcome),
            said("outrider.code", &read.code),
            said("outrider.tool", &read.tool),
            said("outrider.service", &read.service),
            said("outrider.intent", &read.intent),
            said("outrider.ended", &read.ended),
        ];
        LogRecord {
            time_unix_nano: read.time(),
            observed_time_unix_nano: read.time(),
            severity_number: severity.into(),
            severity_text: word.into(),
            body: Some(text(&String::from_utf8_lossy(line))),
            attributes: attributes.into_iter().flatten().collect(),
            trace_id: unhex(&read.trace_id),
            span_id: unhex(&read.span_id),
            flags: u32::from(read.trace_flags == "01"),
            event_name: name,
            ..LogRecord::default()
        }
    }

    fn severity(&self, line: &Line<'_>) -> (SeverityNumber, &'static str) {
        let quiet = match self.kind {
            Kind::Decisions => matches!(&*line.code, "" | "ok"),
            Kind::Security => line.code.is_empty(),
        };
        if quiet {
            (SeverityNumber::Info, "INFO")
        } else {
            (SeverityNumber::Warn, "WARN")
        }
    }
}

impl Batches for Logs {
    fn add(&mut self, line: &[u8]) {
        let record = self.record(line);
        self.records.push(record);
    }

    fn take(&mut self) -> Option<Batch> {
        let records = std::mem::take(&mut self.records);
        let count = records.len();
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope()),
                    log_records: records,
                    schema_url: SCHEMA.into(),
                }],
                schema_url: SCHEMA.into(),
            }],
        };
        Batch::of(request.encode_to_vec(), count)
    }
}
