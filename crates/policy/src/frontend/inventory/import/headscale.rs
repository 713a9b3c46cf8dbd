//! `headscale nodes list -o json` (`headscale.v1.Node`, 0.23 and later), or the API's list: every node.
//! Fields are called as in protobuf (`given_name`) or as in its JSON (`givenName`).

use std::collections::BTreeMap;

use super::{Import, Listed, Lister, object};
use crate::frontend::diagnostic::{Diagnostic, Findings, Severity};
use crate::frontend::inventory::{Owner, User};
use crate::frontend::json::{self, Kind, Object};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

const SECOND: u64 = 1_000_000_000;

/// Reads the list. What is wrong with it goes to `findings`.
pub fn headscale(source: &Source, findings: &mut Findings) -> Option<Import> {
    let value = json::value(source, findings)?;
    let mut lister = Lister { source, findings };
    let listed = match &value.kind {
        Kind::Object(answer) => answer.get("nodes"),
        _ => Some(&value),
    };
    let Some(Kind::Array(nodes)) = listed.map(|value| &value.kind) else {
        let help = "import what `headscale nodes list -o json` prints";
        lister.error(Span::default(), "this is no list of nodes".into(), help);
        return None;
    };
    if nodes.is_empty() {
        let help = "import what `headscale nodes list -o json` prints on the server that has the nodes";
        lister.error(value.span, "the list has no node".into(), help);
        return None;
    }
    let mut import = Import::default();
    // Empty fields are left out, and before 0.26 routes were not listed with the nodes.
    let fields = ["approved_routes", "available_routes", "subnet_routes"];
    let tells = |value| {
        object(value)
            .is_some_and(|listed| fields.iter().any(|name| listed.get(&spelled(listed, name)).is_some()))
    };
    let routes_known = nodes.iter().any(tells);
    for value in nodes {
        let Some(listed) = object(value) else {
            lister.error(
                value.span,
                "a node is an object".into(),
                "import what headscale printed, unchanged",
            );
            continue;
        };
        let Some((mut node, aliases)) = node(&mut lister, listed) else { continue };
        if routes_known {
            node.routes =
                Some(lister.parsed(listed, &spelled(listed, "approved_routes")).unwrap_or_default());
        }
        if let Some(Owner::User(login)) = &node.owner {
            import.users.push(User { login: login.clone(), roles: Vec::new(), aliases, source: None });
        }
        import.nodes.push(node);
    }
    if !routes_known {
        let message = "no node has routes here: those of the inventory that is merged are kept";
        let note = Diagnostic::global(Severity::Note, message);
        findings
            .push(note.help("headscale before 0.26 lists no routes with its nodes; give \"routes\" by hand"));
    }
    Some(import)
}

/// A node, and by which other names policies may call its user.
fn node(lister: &mut Lister<'_>, listed: &Object<'_>) -> Option<(Listed, Vec<String>)> {
    let given = lister.text(listed, &spelled(listed, "given_name"));
    let Some(name) = given.or_else(|| lister.text(listed, "name")) else {
        lister.error(listed.span, "a node without a name".into(), "name it with `headscale nodes rename`");
        return None;
    };
    // Those of policies before 0.28 were apart from those forced on it.
    let [forced, valid] = ["forced_tags", "valid_tags"].map(|name| spelled(listed, name));
    let tags = lister.tags(listed, &["tags", &forced, &valid]);
    let mut aliases = Vec::new();
    let owner = if tags.is_empty() {
        let mut names = listed
            .get("user")
            .and_then(object)
            .map(|user| names(lister, user))
            .unwrap_or_default()
            .into_iter();
        let Some(login) = names.next() else {
            let message = format!("{name} has neither tags nor a user");
            lister.error(listed.span, message, "tag it, or assign it to a user");
            return None;
        };
        aliases.extend(names);
        Owner::User(login)
    } else {
        Owner::Tags(tags)
    };
    let node = Listed {
        key: lister.key(listed, &spelled(listed, "node_key")),
        addresses: lister.parsed(listed, &spelled(listed, "ip_addresses")),
        routes: None,
        owner: Some(owner),
        posture: Attributes::new(),
        posture_expires: BTreeMap::new(),
        expires: Some(expiry(lister, listed)),
        jailed: None,
        name,
    };
    lister.identified(&node, listed.span);
    Some((node, aliases))
}

/// What policies may call a user: by address, by name, or by what the identity provider calls it.
fn names(lister: &mut Lister<'_>, user: &Object<'_>) -> Vec<String> {
    let fields = ["email".to_owned(), "name".to_owned(), spelled(user, "provider_id")];
    let mut names: Vec<String> = Vec::new();
    for name in fields.iter().filter_map(|field| lister.text(user, field)) {
        let name = login(name).to_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A field's name as the list has it: `given_name` or `givenName`.
fn spelled(listed: &Object<'_>, name: &str) -> String {
    if listed.get(name).is_some() { name.to_owned() } else { name.replace('_', "") }
}

/// A user without an address is written with an @ at the end, as in headscale's policies.
fn login(name: String) -> String {
    if name.contains('@') { name } else { name + "@" }
}

/// A protobuf timestamp, or RFC 3339 from the API. Before the epoch is Go's zero time: never.
fn expiry(lister: &mut Lister<'_>, listed: &Object<'_>) -> Option<u64> {
    let value = listed.get("expiry")?;
    let Kind::Object(time) = &value.kind else { return lister.moment(listed, "expiry") };
    let seconds = match time.get("seconds").map(|seconds| &seconds.kind) {
        None => Some(0),
        Some(Kind::Number(digits)) => digits.parse::<i64>().ok(),
        Some(Kind::String(digits)) => digits.parse().ok(),
        Some(_) => None,
    };
    let Some(seconds) = seconds else {
        let help = "import what headscale printed, unchanged";
        lister.error(value.span, "the seconds of expiry are no whole number".into(), help);
        return None;
    };
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?.checked_mul(SECOND)
}
