//! The devices and users of a tailnet, as Tailscale's HTTP API lists them (v2: `GET /api/v2/tailnet/TAILNET/devices` and
//! `/users`), in one object: `{"devices": […], "users": […]}`. A device may have its `attributes`, as
//! `GET /api/v2/device/ID/attributes` tells them.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;

use super::{Import, Listed, Lister, object};
use crate::frontend::diagnostic::Findings;
use crate::frontend::inventory::{Owner, SHARED, User};
use crate::frontend::json::{self, Kind, Object, Value};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

const UNCHANGED: &str = "the API's answer is read unchanged; is it Tailscale's, version 2?";

/// States of users whose devices connect to nobody.
const LOCKED: [&str; 2] = ["suspended", "needs-approval"];

/// Reads the list. What is wrong with it goes to `findings`.
pub fn devices(source: &Source, findings: &mut Findings) -> Option<Import> {
    let value = json::value(source, findings)?;
    let mut lister = Lister { source, findings };
    let answer = object(&value);
    let list = |name: &str| match answer?.get(name).map(|value| &value.kind) {
        Some(Kind::Array(elements)) => Some(elements),
        _ => None,
    };
    let Some(devices) = list("devices") else {
        lister.error(Span::default(), "this is no list of devices".into(), UNCHANGED);
        return None;
    };
    if devices.is_empty() {
        lister.error(value.span, "the list has no device".into(), UNCHANGED);
        return None;
    }
    let mut import = Import::default();
    let mut locked = HashSet::new();
    for value in list("users").into_iter().flatten() {
        let Some(listed) = object(value) else { continue };
        let Some(login) = lister.text(listed, "loginName").map(|login| login.to_lowercase()) else {
            lister.error(listed.span, "a user without a loginName".into(), UNCHANGED);
            continue;
        };
        if lister.text(listed, "status").is_some_and(|status| LOCKED.contains(&&*status)) {
            locked.insert(login);
            continue;
        }
        let mut roles: Vec<String> = lister.text(listed, "role").into_iter().collect();
        let shared = lister.text(listed, "type").filter(|kind| kind == SHARED);
        roles.extend(shared);
        import.users.push(User { login, roles, aliases: Vec::new(), source: None });
    }
    for value in devices {
        if lister.is_hopeless() {
            break;
        }
        match object(value) {
            Some(listed) => import.nodes.extend(device(&mut lister, listed, &locked)),
            None => lister.error(value.span, "a device is an object".into(), UNCHANGED),
        }
    }
    Some(import)
}

/// A device; none if nothing connects to it.
fn device(lister: &mut Lister<'_>, listed: &Object<'_>, locked: &HashSet<String>) -> Option<Listed> {
    let is_authorized = listed.get("authorized").is_none() || lister.flag(listed, "authorized");
    let outside = lister.flag(listed, "isExternal");
    let Some(full) = lister.text(listed, "name").map(|name| name.trim_end_matches('.').to_lowercase()) else {
        lister.error(listed.span, "a device without a name".into(), UNCHANGED);
        return None;
    };
    // A device that another tailnet shares keeps that tailnet's name.
    let name = if outside { &full } else { full.split('.').next().unwrap_or(&full) }.to_owned();
    let tags = lister.tags(listed, &["tags"]);
    let user = lister.text(listed, "user").map(|login| login.to_lowercase());
    let owner = match user {
        _ if outside => Owner::Tags(Vec::new()),
        _ if !tags.is_empty() => Owner::Tags(tags),
        Some(login) if locked.contains(&login) => return None,
        Some(login) => Owner::User(login),
        None => {
            lister.error(listed.span, format!("{name} has neither tags nor a user"), UNCHANGED);
            return None;
        }
    };
    let advertised: Option<Vec<IpNet>> = lister.parsed(listed, "advertisedRoutes");
    let enabled: Vec<IpNet> = lister.parsed(listed, "enabledRoutes").unwrap_or_default();
    let is_led = |route: &IpNet| advertised.as_ref().is_none_or(|all| all.contains(route));
    let expires =
        if lister.flag(listed, "keyExpiryDisabled") { None } else { lister.moment(listed, "expires") };
    let node = Listed {
        key: lister.key(listed, "nodeKey"),
        addresses: lister.parsed(listed, "addresses"),
        routes: Some(enabled.into_iter().filter(is_led).collect()),
        owner: Some(owner),
        posture: posture(lister, listed),
        posture_expires: expiries(lister, listed),
        expires: Some(expires),
        jailed: Some(outside),
        name,
    };
    lister.identified(&node, listed.span);
    is_authorized.then_some(node)
}

fn posture(lister: &mut Lister<'_>, listed: &Object<'_>) -> Attributes {
    let mut posture = Attributes::new();
    if let Some(system) = lister.text(listed, "os") {
        posture.insert("node:os".to_owned(), system.to_lowercase().into());
    }
    let attributes = listed.get("attributes").and_then(object).map_or(&[][..], |of| &of.members);
    for attribute in attributes {
        match scalar(&attribute.value) {
            Some(value) => drop(posture.insert(attribute.name.to_string(), value)),
            None => {
                let message = format!("the attribute {} is no string, number or boolean", attribute.name);
                lister.error(attribute.value.span, message, UNCHANGED);
            }
        }
    }
    posture
}

/// When attributes end. One without a time stays.
fn expiries(lister: &mut Lister<'_>, listed: &Object<'_>) -> BTreeMap<String, u64> {
    let Some(expiries) = listed.get("attributeExpiries").and_then(object) else { return BTreeMap::new() };
    let names = expiries.members.iter().map(|one| one.name.to_string());
    names.filter_map(|name| Some((name.clone(), lister.moment(expiries, &name)?))).collect()
}

fn scalar(value: &Value<'_>) -> Option<serde_json::Value> {
    match &value.kind {
        Kind::String(text) => Some((&**text).into()),
        Kind::Boolean(set) => Some((*set).into()),
        Kind::Number(digits) => serde_json::from_str(digits).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "nodekey:0101010101010101010101010101010101010101010101010101010101010101";

    fn read(text: &str) -> (Option<Import>, Findings) {
        let mut findings = Findings::default();
        (devices(&Source::new("answer", text), &mut findings), findings)
    }

    fn device(more: &str) -> String {
        format!(
            r#"{{"id": "1", "nodeId": "n1", "name": "Web-1.tail1.ts.net", "addresses": ["100.64.0.1", "fd7a::1"], "os": "linux",
                "nodeKey": "{KEY}", "user": "Ann@x.com", "authorized": true, "isExternal": false{more}}}"#
        )
    }

    fn one(more: &str) -> Listed {
        let (import, findings) = read(&format!(r#"{{"devices": [{}]}}"#, device(more)));
        assert!(!findings.has_errors(), "{findings}");
        import.unwrap().nodes.remove(0)
    }

    #[test]
    fn a_device_is_who_the_api_says() {
        let node = one(
            r#", "expires": "2027-01-01T00:00:00Z", "keyExpiryDisabled": false, "advertisedRoutes": ["10.1.0.0/16", "10.2.0.0/16"],
                "enabledRoutes": ["10.1.0.0/16", "10.3.0.0/16"], "attributes": {"intune:ok": true, "custom:tier": "prod", "custom:n": 2}"#,
        );
        assert_eq!((&*node.name, node.owner), ("web-1", Some(Owner::User("ann@x.com".to_owned()))));
        assert_eq!(node.routes.unwrap(), ["10.1.0.0/16".parse::<IpNet>().unwrap()], "led there and approved");
        assert_eq!(node.expires, Some(Some(1_798_761_600_000_000_000)));
        let posture: Vec<_> = node.posture.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(posture, ["custom:n=2", "custom:tier=\"prod\"", "intune:ok=true", "node:os=\"linux\""]);
        let tagged =
            one(r#", "tags": ["tag:web"], "expires": "2020-01-01T00:00:00Z", "keyExpiryDisabled": true"#);
        assert_eq!(
            (tagged.owner, tagged.expires),
            (Some(Owner::Tags(vec!["tag:web".to_owned()])), Some(None))
        );
    }

    #[test]
    fn whom_nothing_connects_to_is_left_out() {
        let (import, _) = read(&format!(r#"{{"devices": [{}]}}"#, device("").replace("true", "false")));
        assert_eq!(import.unwrap().nodes.len(), 0, "not authorized");
        for (status, left) in [("active", 1), ("suspended", 0), ("needs-approval", 0)] {
            let users = format!(
                r#"[{{"loginName": "ann@x.com", "role": "admin", "type": "member", "status": "{status}"}}]"#
            );
            let (import, findings) = read(&format!(r#"{{"devices": [{}], "users": {users}}}"#, device("")));
            let import = import.unwrap();
            assert!(!findings.has_errors(), "{findings}");
            assert_eq!((import.nodes.len(), import.users.len()), (left, left), "{status}");
        }
        let external = device("").replace(r#""isExternal": false"#, r#""isExternal": true"#);
        let (import, _) = read(&format!(r#"{{"devices": [{external}]}}"#));
        let node = &import.unwrap().nodes[0];
        assert_eq!(
            (&*node.name, node.jailed, &node.owner),
            ("web-1.tail1.ts.net", Some(true), &Some(Owner::Tags(Vec::new())))
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let nobody = device("").replace(KEY, "");
        let odd = device(r#", "attributes": {"a": [1]}"#);
        let lists = [
            "<html>502</html>",
            "[]",
            "{}",
            r#"{"message": "not authorized"}"#,
            r#"{"devices": {}}"#,
            r#"{"devices": []}"#,
            r#"{"devices": [3]}"#,
            r#"{"devices": [{}]}"#,
            &format!(r#"{{"devices": [{nobody}]}}"#),
            &format!(r#"{{"devices": [{odd}]}}"#),
            &format!(r#"{{"devices": [{}], "users": [{{}}]}}"#, device("")),
        ];
        for list in lists {
            assert!(read(list).1.has_errors(), "{list}");
        }
    }
}
