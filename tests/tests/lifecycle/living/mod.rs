//! Living inventories: who a control plane admits is let in, whom it removes is cut off, and one that fails changes
//! nothing.

mod api;

use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::{Value, json};

use self::api::{Api, Way};
use crate::alarms::{alarms, until};
use crate::site::account::reports;
use crate::site::connection::Connection;
use crate::site::{Over, Site, WEB};

/// Who is not to pass any more is cut off within this time of the answer that says so.
const WITHIN: Duration = Duration::from_secs(1);

/// The same beside whatever else keeps the machine busy.
const AT_MOST: Duration = Duration::from_secs(5);

/// Lets whoever is Ann's and has passed a check use port 8080 of the server.
const POLICY: &str = r#"{
    "tagOwners": {"tag:server": [], "tag:other": []},
    "postures": {"posture:sound": ["custom:sound == true"]},
    "acls": [{"name": "ann", "action": "accept", "src": ["ann@x.com"], "srcPosture": ["posture:sound"], "dst": ["tag:server:8080"]}]
}"#;

fn device(site: &Site, id: &str, name: &str, more: Value) -> Value {
    let host = site.lab.host(name).unwrap();
    let key = bulkhead_testkit::lab::digits(&host.keys.public).unwrap();
    let mut device = json!({
        "nodeId": id, "name": format!("{name}.tail1.ts.net"), "addresses": [site.address(name).to_string()],
        "nodeKey": format!("nodekey:{key}"), "user": "ann@x.com", "os": "linux", "authorized": true, "isExternal": false,
        "keyExpiryDisabled": true, "expires": "0001-01-01T00:00:00Z",
    });
    device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    device
}

/// A site whose inventory has the server alone; an API lists Ann's client and four machines that are not there.
fn site(label: &str) -> (Site, Api) {
    let site = Site::with_hosts(label, Over::Tunnel, &[WEB], &["api"]);
    let api = Api::serve(&site, "api");
    let server = site.address("server");
    site.write(
        "inventory.json",
        &format!(r#"{{"nodes": [{{"name": "server", "addresses": ["{server}"], "tags": ["tag:server"]}}]}}"#),
    );
    site.write("policy.hujson", POLICY);
    site.write("token", "secret-1\n");
    let text = site.configuration("server", site.interface())
        + &format!(
            "[[source]]\nname = \"tailnet\"\nkind = \"tailscale\"\nurl = \"{}\"\ntailnet = \"example.com\"\n\
             token = \"token\"\nattributes = true\nevery_seconds = 1\n",
            api.url()
        );
    site.write("agent.toml", &text);
    let mut devices = vec![device(&site, "c1", "client", json!({}))];
    devices.extend((10..14).map(|number| {
        json!({
            "nodeId": format!("o{number}"), "name": format!("other-{number}.tail1.ts.net"), "authorized": true,
            "addresses": [format!("100.99.0.{number}")], "nodeKey": format!("nodekey:{}", format!("{number:02x}").repeat(32)),
            "tags": ["tag:other"], "keyExpiryDisabled": true,
        })
    }));
    {
        let mut told = api.told();
        told.devices = devices;
        told.users =
            vec![json!({"loginName": "ann@x.com", "role": "member", "type": "member", "status": "active"})];
        told.attributes = json!({"c1": {"custom:sound": true}});
    }
    (site, api)
}

/// How long after an answer the last byte arrived.
fn cut_after(site: &Site, answered: Instant, connection: &mut Connection) -> Duration {
    let late = connection.last_arrival().saturating_duration_since(answered);
    connection.is_cut();
    assert!(site.is_denied("client", 8080));
    late
}

fn admitted(site: &Site) {
    until(site, "the client is let in", || site.connects("client", 8080));
}

#[test]
fn whom_the_control_plane_admits_is_let_in_and_whom_it_locks_or_removes_is_cut_off() {
    let (mut site, api) = site("living");
    site.start();
    admitted(&site);
    let nodes = |status: &Value| status["agent"]["sources"][0]["nodes"].clone();
    assert_eq!(nodes(&site.status()), 5);

    let mut late = Vec::new();
    let mut connection = site.connect("client", 8080);
    let answered = api.tell(|told| told.attributes["c1"]["custom:sound"] = false.into());
    late.push(cut_after(&site, answered, &mut connection));
    api.tell(|told| told.attributes["c1"]["custom:sound"] = true.into());
    admitted(&site);

    let mut connection = site.connect("client", 8080);
    let answered = api.tell(|told| told.users[0]["status"] = "suspended".into());
    late.push(cut_after(&site, answered, &mut connection));
    api.tell(|told| told.users[0]["status"] = "active".into());
    admitted(&site);

    let mut connection = site.connect("client", 8080);
    let client = api.told().devices[0].clone();
    let answered = api.tell(|told| drop(told.devices.remove(0)));
    late.push(cut_after(&site, answered, &mut connection));
    // What a change takes on this machine now, which others may keep busy.
    let began = Instant::now();
    site.done(&["apply", &site.path("policy.hujson"), "--inventory", &site.path("inventory.json")]);
    let change = began.elapsed();
    println!("cut after {late:?}, where a change takes {change:?}");
    assert!(late.iter().min() < Some(&WITHIN.max(change * 2)), "{late:?}, {change:?}\n{}", site.log());
    assert!(late.iter().max() < Some(&slower(AT_MOST)), "{late:?}\n{}", site.log());
    let control = |event: &Value| event["kind"] == "control" && event["by"]["via"] == "source";
    let changes: Vec<Value> = reports(&site.journal_file()).into_iter().filter(control).collect();
    let last = changes.last().unwrap();
    assert!(last["detail"] == "gone: client" && last["by"]["name"] == "tailnet", "{changes:#?}");
    api.tell(|told| told.devices.insert(0, client));
    admitted(&site);

    let printed = site.bulkhead(&["sources", "--inventory"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap_or_else(|_| panic!("{printed:?}"));
    let listed = printed["nodes"].as_array().unwrap();
    assert_eq!(listed.iter().filter(|node| node["source"] == "tailnet").count(), 5, "{printed}");

    // Its key expires, by the device's own time.
    let mut connection = site.connect("client", 8080);
    let soon = time::OffsetDateTime::now_utc() + time::Duration::seconds(6);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    api.tell(|told| {
        told.devices[0]["keyExpiryDisabled"] = false.into();
        told.devices[0]["expires"] = soon.into();
    });
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    while connection.arrives() != [false, false] {
        assert!(Instant::now() < deadline, "the key's end\n{}", site.log());
    }
    // What the source lists is what was approved.
    let live = site.bulkhead(&["audit", "live"]);
    assert_eq!(live.status.code(), Some(0), "{live:?}");
}

#[test]
fn a_source_that_is_down_slow_empty_or_wrong_changes_nothing_and_alarms() {
    let (mut site, api) = site("faulty");
    site.start();
    admitted(&site);
    let mut connection = site.connect("client", 8080);
    let devices = api.told().devices.clone();
    let stolen = {
        // A machine that takes the server's address is not believed to be it: it is left out.
        let mut stolen = devices.clone();
        stolen[0]["addresses"] = json!([site.address("server").to_string()]);
        json!({ "devices": stolen }).to_string()
    };
    let ways = [
        (Way::Status("503 Service Unavailable"), "503"),
        (Way::Text("<html>maintenance</html>".to_owned()), "answer is not as it should be"),
        (Way::Text(r#"{"devices": [], "users": []}"#.to_owned()), "no device"),
        (Way::Text(stolen[..stolen.len() / 2].to_owned()), "answer is not as it should be"),
        (Way::Text(r#"{"devices": [{"name": 1}], "users": [], "attributes": {}}"#.to_owned()), "no id"),
        (Way::Hangs, "tailnet"),
    ];
    for (number, (way, words)) in ways.into_iter().enumerate() {
        let is_hang = way == Way::Hangs;
        api.told().way = way.clone();
        // A server that hangs is given up after half a minute, twice.
        let patience = if is_hang { Duration::from_secs(90) } else { Duration::from_secs(20) };
        let deadline = Instant::now() + slower(patience);
        let problem = loop {
            let status = site.status();
            let problem = status["agent"]["sources"][0]["problem"].as_str().unwrap_or_default().to_owned();
            if problem.contains(words) {
                assert_eq!(status["state"], "degraded", "{status}");
                break problem;
            }
            assert!(Instant::now() < deadline, "{way:?}: {problem}\n{}", site.log());
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(!problem.contains("secret-1"), "{problem}");
        until(&site, "the alarm", || alarms(&site, "source", "raised").len() == number + 1);
        connection.goes_on();
        assert!(site.connects("client", 8080), "{way:?}");
        api.told().way = Way::Well;
        until(&site, "its end", || alarms(&site, "source", "ended").len() == number + 1);
    }

    // Half of it gone is a fault until somebody says that it is none.
    api.tell(|told| told.devices.truncate(1));
    until(&site, "it is not believed", || {
        let problem = site.status()["agent"]["sources"][0]["problem"].clone();
        problem.as_str().is_some_and(|words| words.contains("4 of 5 nodes are gone"))
    });
    assert_eq!(site.bulkhead(&["sources"]).status.code(), Some(1));
    let unknown = site.bulkhead(&["sources", "--accept", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("sources: tailnet"), "{unknown:?}");
    site.done(&["sources", "--accept", "tailnet"]);
    until(&site, "it is believed", || site.status()["agent"]["sources"][0]["nodes"] == 1);
    assert_eq!(site.bulkhead(&["sources"]).status.code(), Some(0));
    connection.goes_on();
}

#[test]
fn a_restart_goes_on_with_the_last_answer_and_a_source_does_not_confirm_a_policy() {
    let (mut site, api) = site("lasting");
    site.start();
    admitted(&site);
    let mut connection = site.connect("client", 8080);
    api.told().way = Way::Status("500 Internal Server Error");
    for _ in 0..2 {
        site.kill();
        site.start();
        connection.goes_on();
        assert!(site.connects("client", 8080));
    }
    // The file changes while no agent runs: nobody is lost by it.
    site.kill();
    site.write("policy.hujson", &POLICY.replace("8080", "8080,8081"));
    site.start();
    connection.goes_on();
    assert!(site.connects("client", 8081));
    api.told().way = Way::Well;
    api.tell(|_| ());

    // A policy that waits is not kept because a source has changed, and what returns has the source's nodes.
    site.write("other.hujson", &POLICY.replace("8080", "9999"));
    let inventory = site.path("inventory.json");
    site.done(&["apply", &site.path("other.hujson"), "--inventory", &inventory, "--confirm", "8s"]);
    let waits = |status: &Value| status["agent"]["confirm_within"].is_number();
    assert!(waits(&site.status()));
    api.tell(|told| drop(told.devices.pop()));
    until(&site, "it is followed", || site.status()["agent"]["sources"][0]["nodes"] == 4);
    assert!(site.is_denied("client", 8080), "the other policy is in force");
    until(&site, "nobody has confirmed", || !waits(&site.status()));
    admitted(&site);
    let status = site.status();
    assert_eq!(status["agent"]["sources"][0]["nodes"], 4, "{status}");
    let explained = site.bulkhead(&["audit", "live"]);
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");

    // Without the source nobody of it is left.
    site.kill();
    site.write("agent.toml", &site.configuration("server", site.interface()));
    site.start();
    assert!(site.is_denied("client", 8080));
}

#[test]
fn a_command_and_a_directory_list_who_exists_and_the_first_of_two_stands() {
    let mut site = Site::new("listing", Over::Tunnel, &[WEB]);
    let [server, client, stranger] = ["server", "client", "stranger"].map(|name| site.address(name));
    let node =
        |name: &str, address: &str| json!({"name": name, "addresses": [address], "tags": ["tag:client"]});
    let list = |site: &Site, file: &str, nodes: &[Value]| {
        site.write(file, &json!({ "nodes": nodes }).to_string());
    };
    site.write(
        "inventory.json",
        &format!(r#"{{"nodes": [{{"name": "server", "addresses": ["{server}"], "tags": ["tag:server"]}}]}}"#),
    );
    std::fs::create_dir(site.path("list.d")).unwrap();
    list(&site, "cmdb.json", &[node("client", &client.to_string()), node("spare", "100.99.0.1")]);
    let stranger = node("stranger", &stranger.to_string());
    list(&site, "list.d/a.json", &[stranger, node("spare-2", "100.99.0.2")]);
    list(
        &site,
        "list.d/b.json",
        &[node("thief", &server.to_string()), node("client-2", &client.to_string())],
    );
    let text = site.configuration("server", site.interface())
        + &format!(
            "[[source]]\nname = \"cmdb\"\nkind = \"command\"\ncommand = [\"/bin/cat\", \"{}\"]\nevery_seconds = 1\n\
             [[source]]\nname = \"drop-in\"\nkind = \"directory\"\npath = \"list.d\"\n",
            site.path("cmdb.json")
        );
    site.write("agent.toml", &text);
    site.start();
    admitted(&site);
    until(&site, "the other source is heard", || site.connects("stranger", 8080));
    let sources = site.status()["agent"]["sources"].clone();
    let expected = [
        "thief: a node of the inventory's file has the address 100.64.0.1".to_owned(),
        format!("client-2: a node of cmdb has the address {client}"),
    ];
    assert_eq!(sources[1]["left_out"], json!(expected), "{sources}");

    // One may go, and nobody at all may not.
    list(&site, "list.d/a.json", &[node("spare-2", "100.99.0.2")]);
    until(&site, "it is cut off", || site.is_denied("stranger", 8080));
    site.write("cmdb.json", r#"{"nodes": []}"#);
    let says = |words: &str| {
        let problem = site.status()["agent"]["sources"][0]["problem"].clone();
        problem.as_str().is_some_and(|problem| problem.contains(words))
    };
    until(&site, "an empty list is not believed", || says("lists nobody, after 2 nodes"));
    std::fs::remove_file(site.path("cmdb.json")).unwrap();
    until(&site, "a command that fails is told", || says("exit status: 1: /bin/cat:"));
    assert!(site.connects("client", 8080));
}

#[test]
fn a_node_whose_route_rivals_a_workload_is_left_out_and_whoever_is_gone_is_cut_off() {
    let mut site = Site::new("rivals", Over::Tunnel, &[WEB]);
    let [server, client, stranger] = ["server", "client", "stranger"].map(|name| site.address(name));
    let app = json!({"name": "app", "addresses": ["10.1.0.5"], "tags": [], "match": {"unit": "app.service"}});
    let nodes = json!([
        {"name": "server", "addresses": [server], "tags": ["tag:server"]},
        {"name": "web-1", "addresses": ["100.99.0.1"], "tags": [], "routes": ["10.1.0.0/24"], "workloads": [app]},
    ]);
    site.write("inventory.json", &json!({ "nodes": nodes }).to_string());
    let list = |site: &Site, nodes: Value| site.write("cmdb.json", &json!({ "nodes": nodes }).to_string());
    let n7 = json!({"name": "n7", "addresses": [client], "tags": ["tag:client"]});
    let n9 = json!({"name": "n9", "addresses": [stranger], "tags": ["tag:client"]});
    let n8 =
        json!({"name": "n8", "addresses": ["100.99.0.8"], "tags": ["tag:client"], "routes": ["10.1.0.0/24"]});
    list(&site, json!([n7, n9]));
    let text = site.configuration("server", site.interface())
        + &format!(
            "[[source]]\nname = \"cmdb\"\nkind = \"command\"\ncommand = [\"/bin/cat\", \"{}\"]\nevery_seconds = 1\n",
            site.path("cmdb.json")
        );
    site.write("agent.toml", &text);
    site.start();
    admitted(&site);
    let mut connection = site.connect("client", 8080);
    let mut other = site.connect("stranger", 8080);

    list(&site, json!([n8, n9]));
    until(&site, "it is cut off", || site.is_denied("client", 8080));
    connection.is_cut();
    let told = |site: &Site| {
        let status = site.status();
        let left_out = status["agent"]["sources"][0]["left_out"].clone();
        let expected =
            "n8: a node of the inventory's file has the address 10.1.0.5, in the route 10.1.0.0/24 of n8";
        assert_eq!(left_out, json!([expected]), "{status}");
        assert!(status["agent"]["sources_problem"].is_null(), "{status}");
    };
    told(&site);
    for _ in 0..2 {
        site.kill();
        site.start();
        assert!(site.is_denied("client", 8080));
        other.goes_on();
        told(&site);
    }
    list(&site, json!([n7, n9]));
    admitted(&site);
}

#[test]
fn what_cannot_be_enforced_cuts_off_whoever_has_changed_and_outlives_a_restart() {
    let (mut site, api) = site("unfit");
    let text = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    site.write("agent.toml", &(text + "most_lost_percent = 100\n"));
    let own = device(&site, "s1", "server", json!({"tags": ["tag:server"]}));
    api.told().devices.push(own.clone());
    site.start();
    admitted(&site);
    // Now this host, too, is the source's alone.
    site.write("none.json", r#"{"nodes": []}"#);
    site.write("other.hujson", &POLICY.replace("8080", "8080,8081"));
    site.done(&["apply", &site.path("other.hujson"), "--inventory", &site.path("none.json")]);
    let mut connection = site.connect("client", 8080);
    let client = api.told().devices[0].clone();
    api.tell(|told| {
        told.devices.pop();
        told.devices.remove(0);
    });
    until(&site, "it is told", || site.status()["agent"]["sources_problem"].is_string());
    connection.is_cut();
    assert!(site.is_denied("client", 8080));
    let status = site.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert_eq!(site.bulkhead(&["sources"]).status.code(), Some(1));
    assert_eq!(alarms(&site, "source", "raised").len(), 1);
    site.kill();
    site.start();
    assert!(site.is_denied("client", 8080));
    api.tell(|told| told.devices.extend([client, own]));
    admitted(&site);
    assert!(site.connects("client", 8081), "the policy that was applied, not the one that `run` names");
    until(&site, "all is well", || site.status()["state"] == "enforced");
    assert!(site.status()["agent"]["alarms"]["active"].as_array().unwrap().is_empty());
}

/// So many seconds from now, as the API has times.
fn in_seconds(seconds: i64) -> String {
    let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn what_was_to_end_ends_though_the_api_is_down() {
    for (label, key) in [("lvattribute", false), ("lvkey", true)] {
        let (mut site, api) = site(label);
        site.start();
        admitted(&site);
        let mut connection = site.connect("client", 8080);
        connection.goes_on();
        // The attribute of the device, or its key, is to end; nobody tells of it when it does.
        let end = in_seconds(6);
        api.tell(|told| match key {
            true => {
                let until = json!({"keyExpiryDisabled": false, "expires": end});
                told.devices[0] = device(&site, "c1", "client", until);
            }
            false => told.expiries = json!({"c1": {"custom:sound": end, "custom:other": in_seconds(-60)}}),
        });
        std::thread::sleep(Duration::from_millis(500));
        api.told().way = Way::Status("503 Service Unavailable");
        connection.goes_on();
        if !key {
            // Another agent knows it as well.
            site.kill();
            site.start();
            connection.goes_on();
        }
        std::thread::sleep(slower(Duration::from_secs(7)));
        connection.is_cut();
        assert!(site.is_denied("client", 8080), "{label}");
        let listed = String::from_utf8(site.bulkhead(&["sources", "--inventory"]).stdout).unwrap();
        assert!(key || !listed.contains("custom:sound") && !listed.contains("postureExpires"), "{listed}");
        // It is admitted anew once somebody says so.
        api.tell(|told| {
            told.way = Way::Well;
            told.expiries = json!({});
            told.devices[0] = device(&site, "c1", "client", json!({}));
        });
        let deadline = Instant::now() + slower(Duration::from_secs(10));
        while !site.connects("client", 8080) {
            assert!(Instant::now() < deadline, "{label}: it is not admitted again");
        }
    }
}
