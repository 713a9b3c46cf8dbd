//! Syslog messages and OTLP requests, read as their receivers do.

use bulkhead_export::{Format, otlp, syslog};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message as _;
use serde_json::{Value, json};

use crate::events;

#[test]
fn a_syslog_message_has_its_parts() {
    let mut event = events::drop();
    event["rule"]["name"] = json!("x");
    event["source"]["name"] = json!("a\"b\\c]d\n");
    let exported = events::record(6, &event);
    let message = String::from_utf8(syslog::message(&exported, Format::Bulkhead)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        "<109>1 2026-11-28T08:53:14.926000Z oms-1.example bulkhead - drop [meta sequenceId=\"7\"]\
         [origin software=\"bulkhead\" swVersion=\"{version}\"]\
         [timeQuality tzKnown=\"1\" isSynced=\"1\" syncAccuracy=\"16\"]\
         [bulkhead@32473 uid=\"oms-1.example:6:1795855994926000001\" direction=\"ingress\" reason=\"deny_rule\" \
         src=\"a\\\"b\\\\c\\]d?\" src_ip=\"100.64.0.6\" dst=\"oms-1\" dst_ip=\"fd7a:115c:a1e0::1\" dst_port=\"22\" \
         proto=\"tcp\" rule=\"5\" count=\"3\"] "
    );
    assert!(message.starts_with(&head), "{message}\nis not\n{head}");
    assert_eq!(&message.as_bytes()[head.len()..], exported.bytes());
}

#[test]
fn every_message_is_one_line_and_is_framed_by_its_length() {
    for exported in events::all().into_iter().chain(events::unknown()) {
        for format in [Format::Ocsf, Format::Bulkhead] {
            let framed = syslog::framed(&exported, format);
            let end = framed.iter().position(|byte| *byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&framed[..end]).unwrap().parse().unwrap();
            assert_eq!(framed.len(), end + 1 + length);
            let message = &framed[end + 1..];
            assert!(
                !message.contains(&b'\n') && message.starts_with(b"<1"),
                "{}",
                String::from_utf8_lossy(message)
            );
            // HEADER: seven fields before structured data, none of them empty.
            assert!(message.splitn(8, |byte| *byte == b' ').all(|field| !field.is_empty()));
        }
    }
}

#[test]
fn a_request_holds_every_record_in_order() {
    let all = events::all();
    let request =
        ExportLogsServiceRequest::decode(&*otlp::request(&all, Format::Ocsf, "oms-1.example")).unwrap();
    let records = &request.resource_logs[0].scope_logs[0].log_records;
    assert_eq!(records.len(), all.len());
    for (exported, record) in all.iter().zip(records) {
        assert_eq!(record.event_name, format!("bulkhead.{}", exported.kind()));
        assert_eq!(record.time_unix_nano, exported.record().unwrap().event.time.unix());
        assert!((9..=17).contains(&record.severity_number));
        let body = record.body.clone().unwrap().value.unwrap();
        let Any::KvlistValue(body) = body else { panic!("{body:?}") };
        let class = body.values.iter().find(|member| member.key == "class_uid").unwrap().value.clone();
        assert!(matches!(class.unwrap().value, Some(Any::IntValue(1..))) || exported.kind() == "missed");
    }
}

#[test]
fn what_a_receiver_has_not_taken_is_told() {
    let answer = |rejected_log_records| {
        let partial = ExportLogsPartialSuccess { rejected_log_records, error_message: "too old".to_owned() };
        ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    };
    assert_eq!(otlp::rejected(&answer(2)), Some((2, "too old".to_owned())));
    for none in [answer(0), Vec::new(), b"<html>".to_vec()] {
        assert_eq!(otlp::rejected(&none), None);
    }
}

#[test]
fn the_records_own_bytes_are_sent_where_they_are_asked_for() {
    for exported in events::all() {
        assert_eq!(exported.line(Format::Bulkhead), exported.bytes());
        let object: Value = serde_json::from_slice(&exported.line(Format::Ocsf)).unwrap();
        assert_eq!(object["metadata"]["sequence"], json!(exported.sequence));
        assert_eq!(object["unmapped"]["event"]["kind"], json!(exported.kind()));
    }
}
