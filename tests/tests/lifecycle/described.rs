//! The socket by curl: every route answers what docs/reference/openapi.json says.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{OTHER, Over, Site, WEB, policy};

const DOCUMENT: &str = include_str!("../../../docs/reference/openapi.json");

/// What curl was answered.
struct Answer {
    code: String,
    kind: String,
    body: String,
}

/// The document, and which operations have been answered as it says.
struct Document {
    document: Value,
    seen: BTreeSet<String>,
}

fn curl(site: &Site, words: &[&str], path: &str) -> Answer {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-buffer"]);
    command.args(["--unix-socket", &format!("/run/bulkhead/{}/agent.sock", site.instance())]);
    command.args(["--write-out", "\n%{http_code} %{content_type}"]).args(words);
    let output = command.arg(format!("http://localhost{path}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (code, kind) = last.split_once(' ').unwrap();
    Answer { code: code.to_owned(), kind: kind.to_owned(), body: body.to_owned() }
}

impl Document {
    fn new() -> Self {
        Self { document: serde_json::from_str(DOCUMENT).unwrap(), seen: BTreeSet::new() }
    }

    /// Why a value is none of a schema of the document's.
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = json!({ "components": self.document["components"], "allOf": [schema] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.validate(value).map_err(|error| format!("{error} at {}", error.instance_path()))
    }

    /// Checks an answer of an operation; its values.
    #[track_caller]
    fn is_so(&mut self, method: &str, path: &str, answer: &Answer) -> Vec<Value> {
        let Answer { code, kind, body } = answer;
        let bare = path.split('?').next().unwrap();
        let operation = &self.document["paths"][bare][method];
        let described = &operation["responses"][code];
        assert!(described.is_object(), "{method} {path} is answered {code}: {body}");
        if code != "200" {
            assert!(kind.starts_with("text/plain") && !body.is_empty(), "{path}: {kind}: {body}");
            return Vec::new();
        }
        self.seen.insert(format!("{method} {bare}"));
        let Some(content) = described["content"].as_object() else {
            assert_eq!(body, "", "{path}");
            return Vec::new();
        };
        let (of, content) = content.iter().next().unwrap();
        assert!(kind.starts_with(of.as_str()), "{path} is {kind}, not {of}");
        let values: Vec<Value> = match of.as_str() {
            "application/json" => vec![serde_json::from_str(body).unwrap()],
            "application/x-ndjson" => body
                .lines()
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            _ => vec![body.as_str().into()],
        };
        for value in &values {
            self.check(&content["schema"], value).unwrap_or_else(|error| panic!("{path}: {error}: {value}"));
        }
        values
    }
}

/// The body of a change: the line, and the text of its policy.
fn change(site: &Site, acls: &[&str], more: &str) -> String {
    let text = policy(acls);
    let head = format!("{{\"policy\":{{\"name\":\"by-curl\",\"bytes\":{}}}{more}}}\n", text.len());
    site.write("body", &(head + &text));
    format!("@{}", site.path("body"))
}

#[test]
fn every_route_answers_as_the_document_says() {
    let mut site = Site::new("described", Over::Ethernet, &[WEB]);
    std::fs::create_dir(site.path("listed")).unwrap();
    let source = "[[source]]\nname = \"listed\"\nkind = \"directory\"\npath = \"listed\"\n";
    // A fleet that has published nothing.
    std::fs::create_dir(site.path("fleet")).unwrap();
    let id = "0".repeat(32);
    site.write(
        "p",
        &format!(r#"{{"signed": {{"x-bulkhead-repository": "policy", "x-bulkhead-fleet": "{id}"}}}}"#),
    );
    let fleet = "[fleet]\npolicy_root = \"p\"\ninventory_root = \"i\"\ndirectory = \"fleet\"\n";
    site.write("agent.toml", &(site.configuration("server", "eth0") + source + fleet));
    site.start();
    let mut document = Document::new();
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    let get = |site: &Site, document: &mut Document, path: &str| {
        document.is_so("get", path, &curl(site, &[], path))
    };
    let post = |site: &Site, document: &mut Document, path: &str, body: &str| {
        document.is_so("post", path, &curl(site, &["--request", "POST", "--data-binary", body], path))
    };

    // Events come while somebody watches.
    let events = std::thread::scope(|scope| {
        let watching = scope.spawn(|| curl(&site, &["--max-time", "6"], "/v1/events"));
        std::thread::sleep(Duration::from_secs(1));
        let at = SocketAddr::new(site.address("server"), 9999);
        let drop = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", at).unwrap();
        assert_eq!(site.namespace("stranger").run(drop).unwrap(), 1);
        for path in ["/v1/version", "/v1/alive", "/v1/status", "/v1/metrics", "/v1/history", "/v1/flows"] {
            get(&site, &mut document, path);
        }
        assert_eq!(
            get(&site, &mut document, "/v1/flows?with=client&port=8080&state=tcp_established").len(),
            2
        );
        assert_eq!(get(&site, &mut document, "/v1/flows?with=stranger&limit=0").len(), 1);
        // Nothing is answered as nothing, and what is wrong as text.
        for wrong in ["with=nobody", "port=x", "limit=-1", "colour=red"] {
            assert_eq!(get(&site, &mut document, &format!("/v1/flows?{wrong}")).len(), 0, "{wrong}");
        }
        let applied =
            post(&site, &mut document, "/v1/apply", &change(&site, &[WEB, OTHER], ",\"confirm\":60"));
        assert_eq!(applied[0]["applied"], true);
        assert_eq!(post(&site, &mut document, "/v1/confirm", ""), [json!(true)]);
        assert_eq!(post(&site, &mut document, "/v1/confirm", ""), [json!(false)]);
        watching.join().unwrap()
    });
    let events = document.is_so("get", "/v1/events", &events);
    for kind in ["drop", "control"] {
        assert!(events.iter().any(|event| event["kind"] == kind), "{kind}: {events:?}");
    }
    assert!(site.connects("client", 8081), "what curl has applied is enforced");

    let refused = post(&site, &mut document, "/v1/apply", &change(&site, &["}"], ""));
    assert_eq!(refused[0]["applied"], false);
    assert!(!refused[0]["findings"].as_array().unwrap().is_empty());
    post(&site, &mut document, "/v1/stage", &change(&site, &[WEB], ""));
    get(&site, &mut document, "/v1/status");
    post(&site, &mut document, "/v1/unstage", "");
    assert_eq!(post(&site, &mut document, "/v1/unstage", ""), [Value::Null]);
    post(&site, &mut document, "/v1/stage", &change(&site, &[WEB], ""));
    assert_eq!(post(&site, &mut document, "/v1/promote", "{\"within\":60}")[0]["applied"], true);
    assert!(post(&site, &mut document, "/v1/rollback", "")[0].is_object());
    let cut = "{\"subject\":\"client\",\"seconds\":60,\"reason\":\"breach\"}";
    assert_eq!(post(&site, &mut document, "/v1/quarantine", cut)[0]["done"], true);
    get(&site, &mut document, "/v1/status");
    assert_eq!(post(&site, &mut document, "/v1/release", "\"client\"")[0]["done"], true);
    assert!(post(&site, &mut document, "/v1/attach", "\"eth0\"")[0]["attached"].is_object());
    assert_eq!(post(&site, &mut document, "/v1/accept", "\"listed\""), [true]);
    assert_eq!(post(&site, &mut document, "/v1/grant", "{\"note\":\"garbage\"}")[0]["done"], false);
    assert_eq!(post(&site, &mut document, "/v1/note", "{\"note\":\"garbage\"}")[0]["done"], false);
    let unknown = format!("{{\"id\":\"{}\",\"reason\":\"stolen\"}}", "0".repeat(32));
    assert_eq!(post(&site, &mut document, "/v1/revoke", &unknown)[0]["done"], true);
    assert_eq!(post(&site, &mut document, "/v1/resume", ""), [true], "what curl has applied was local");
    get(&site, &mut document, "/v1/grants");
    get(&site, &mut document, "/v1/tls");
    get(&site, &mut document, "/v1/history");

    // What is wrong is answered as the document says, and changes nothing.
    let before = site.status();
    for (path, body) in [
        ("/v1/apply", "not a line"),
        ("/v1/apply", "[]\n"),
        ("/v1/stage", "{\"policy\":{\"name\":\"p\",\"bytes\":5}}\n12"),
        ("/v1/promote", "[]"),
        ("/v1/quarantine", "{\"subject\":5}"),
        ("/v1/release", ""),
        ("/v1/attach", "\"eth7\""),
        ("/v1/accept", "\"nobody\""),
        ("/v1/grant", "{}"),
        ("/v1/note", "{}"),
        ("/v1/revoke", "[]"),
    ] {
        assert!(post(&site, &mut document, path, body).is_empty(), "{path}");
    }
    site.write("long", &format!("\"{}\"", "x".repeat(70_000)));
    let long = format!("@{}", site.path("long"));
    for path in ["/v1/quarantine", "/v1/release", "/v1/attach", "/v1/promote", "/v1/rollback"] {
        let answer = curl(&site, &["--request", "POST", "--data-binary", &long], path);
        assert_eq!(answer.code, "413", "{path}: {}", answer.body);
        document.is_so("post", path, &answer);
    }
    assert_eq!(curl(&site, &[], "/v2/status").code, "404");
    assert_eq!(curl(&site, &[], "/v1/apply").code, "405");
    let after = site.status();
    for field in ["state", "generations", "quarantined"] {
        assert_eq!(before[field], after[field], "{field}");
    }

    // The document says something: a value without a field, or of another type, is none.
    let status = json!({ "$ref": "#/components/schemas/Status" });
    assert_eq!(document.check(&status, &after), Ok(()));
    for (field, value) in [("state", json!("fine")), ("links", json!({})), ("lost", Value::Null)] {
        let mut wrong = after.clone();
        wrong[field] = value;
        assert!(document.check(&status, &wrong).is_err(), "{field}");
        wrong.as_object_mut().unwrap().remove(field);
        assert!(document.check(&status, &wrong).is_err(), "without {field}");
    }

    post(&site, &mut document, "/v1/detach", "");
    assert!(site.has_ended());
    let all: BTreeSet<String> = document.document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(document.seen, all, "every operation was answered");
}
