//! Requests of the OpenTelemetry protocol: logs, as protobuf (OTLP 1.x, `ExportLogsServiceRequest`).

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::Value;

use crate::{Exported, Format, PRODUCT};

/// The content type of a request.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// A request with some records, in their order. `host` is the resource that they are of.
#[must_use]
pub fn request(records: &[Exported], format: Format, host: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let resource = vec![
        attribute("service.name", PRODUCT.to_owned()),
        attribute("service.version", version.clone()),
        attribute("host.name", host.to_owned()),
    ];
    let scope = InstrumentationScope { name: PRODUCT.to_owned(), version, ..InstrumentationScope::default() };
    let log_records = records.iter().map(|exported| log_record(exported, format)).collect();
    let logs = ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() };
    let resource = Resource { attributes: resource, ..Resource::default() };
    let of_host =
        ResourceLogs { resource: Some(resource), scope_logs: vec![logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![of_host] }.encode_to_vec()
}

/// What a receiver that has answered with success has not taken all the same: how many records, and why.
#[must_use]
pub fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_log_records).ok().filter(|rejected| *rejected != 0)?;
    Some((rejected, partial.error_message))
}

fn log_record(exported: &Exported, format: Format) -> LogRecord {
    let time = exported.record().map_or(0, |record| record.event.time.unix());
    let severity = exported.severity();
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.otlp(),
        severity_text: severity.name().to_owned(),
        event_name: format!("{PRODUCT}.{}", exported.kind()),
        body: Some(any(exported.value(format))),
        // Its semantic convention: by this a receiver knows what it has already.
        attributes: vec![
            attribute("log.record.uid", exported.uid()),
            KeyValue {
                key: "bulkhead.sequence".to_owned(),
                value: Some(any(exported.sequence.into())),
                ..KeyValue::default()
            },
        ],
        ..LogRecord::default()
    }
}

fn attribute(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A JSON value as OTLP's; a number that an i64 does not hold is text, as in OTLP's JSON.
fn any(value: Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Any::BoolValue(value)),
        Value::String(value) => Some(Any::StringValue(value)),
        Value::Number(number) => Some(match (number.as_i64(), number.is_u64()) {
            (Some(number), _) => Any::IntValue(number),
            (None, true) => Any::StringValue(number.to_string()),
            (None, false) => Any::DoubleValue(number.as_f64().unwrap_or_default()),
        }),
        Value::Array(values) => {
            Some(Any::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() }))
        }
        Value::Object(members) => {
            let of = |(key, value)| KeyValue { key, value: Some(any(value)), ..KeyValue::default() };
            Some(Any::KvlistValue(KeyValueList { values: members.into_iter().map(of).collect() }))
        }
    };
    AnyValue { value }
}
