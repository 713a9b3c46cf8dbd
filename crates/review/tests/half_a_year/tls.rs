//! TLS at service ports in the pack, and on its page.

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Coverage, Port};
use bulkhead_history::DAY;
use bulkhead_review::{Pack, page};
use serde_json::json;

use crate::{NOW, SECOND, pack};

/// A port as JSON has it.
fn port(number: u16, more: &serde_json::Value) -> Port {
    let mut port = json!({
        "protocol": "tcp", "addresses": ["100.64.0.1"], "port": number, "is_wildcard": false, "is_required": false,
        "began": "unknown", "client_certificate": "unknown",
    });
    let (port_fields, more) = (port.as_object_mut().unwrap(), more.as_object().unwrap());
    port_fields.extend(more.clone());
    serde_json::from_value(port).unwrap()
}

/// One that is required, an exporter in plaintext, and one that nobody knows.
pub(crate) fn coverage() -> Coverage {
    let at = |seconds: u64| Timestamp::from_unix(seconds * SECOND);
    let certificate = json!({
        "subject": "CN=<b>oms</b>", "issuer": "CN=authority", "serial": "01", "sha256": "00",
        "not_before": at(NOW - 9 * DAY), "not_after": at(NOW - DAY), "spiffe": ["spiffe://bank.example/<i>oms"],
    });
    let ports = vec![
        port(
            9443,
            &json!({
                "process": "oms", "wanted": "required", "is_required": true, "began": "tls", "by": "kernel",
                "client_certificate": "demanded", "certificate": certificate, "invalid": "expired yesterday",
                "counted": {"began": 7, "plaintext": 0, "unverified": 1},
            }),
        ),
        port(
            9100,
            &json!({
                "process": "<u>exporter</u>", "unit": "exporter.service", "began": "plaintext", "by": "probe", "looks_like": "http",
            }),
        ),
        port(7777, &json!({"why": "no answer within 5000 ms", "wanted": "observe"})),
    ];
    let files = json!([{"file": "/etc/x.pem", "certificates": [], "problem": "it is gone"}]);
    Coverage {
        node: "oms-1".to_owned(),
        ports,
        files: serde_json::from_value(files).unwrap(),
        notes: vec!["a note".to_owned()],
    }
}

#[test]
fn the_page_says_what_ports_begin_with_and_escapes_what_they_present() {
    let page = page::render(&pack());
    for words in [
        "1 service port in plaintext",
        "1 service port whose certificate is not valid",
        "1 certificate file that cannot be read",
        "9100/tcp",
        "&lt;u&gt;exporter&lt;/u&gt;",
        "exporter.service",
        "spiffe://bank.example/&lt;i&gt;oms",
        "expired yesterday",
        "7 began as TLS, 0 in plaintext, 1 unverified",
        "no answer within 5000 ms",
        "demanded",
        "nobody vouches for it",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for word in ["encrypted", "authenticated", "<u>exporter"] {
        assert!(!page.contains(word), "{word}");
    }
    let page = page::render(&Pack { tls: None, ..pack() });
    assert!(page.contains("Not known: no agent answered") && !page.contains("in plaintext"));
    let page = page::render(&Pack { tls: Some(Coverage::default()), ..pack() });
    assert!(page.contains("Nobody listens at overlay addresses."));
}
