//! The sections of a policy file.

use ipnet::IpNet;

use super::definitions::{hosts, ipsets, members, postures, tag_owners};
use super::{OnDeny, Policy, boundaries, grants, rules, sections, ssh, test, venues};
use crate::Dialect;
use crate::frontend::diagnostic::Findings;
use crate::frontend::json::{self, Kind, Object, Reader, Value};
use crate::frontend::source::{Source, Spanned};

/// A section that is Tailscale's and not ours to enforce, and the shape it must have.
#[derive(Clone, Copy)]
enum Shape {
    Object,
    List,
    Boolean,
    Text,
}

const NOT_ENFORCED: [(&str, Shape); 9] = [
    ("ssh", Shape::List),
    ("sshTests", Shape::List),
    ("nodeAttrs", Shape::List),
    ("autoApprovers", Shape::Object),
    ("derpMap", Shape::Object),
    ("disableIPv4", Shape::Boolean),
    ("randomizeClientPort", Shape::Boolean),
    ("OneCGNATRoute", Shape::Text),
    ("extraDNSRecords", Shape::List),
];

const SECTIONS: [&str; 9] =
    ["acls", "grants", "groups", "tagOwners", "hosts", "ipsets", "postures", "defaultSrcPosture", "tests"];

/// Sections that are ours.
const OURS: [&str; 7] = ["venues", "boundaries", "onDeny", "approvers", "grantable", "quarantine", "granted"];

/// Reads a policy file. What is wrong with it goes to `findings`; a policy comes back whenever
/// the text is an object, so that resolving it can find more.
pub fn parse(source: &Source, dialect: Dialect, findings: &mut Findings) -> Option<Policy> {
    json::parse(source, findings, "a policy", |reader, object| {
        reader.any_case = true;
        reader.null_is_absent = dialect == Dialect::Tailscale;
        policy(reader, object, dialect)
    })
}

fn policy(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Policy {
    let mut policy = Policy {
        source: reader.source.clone(),
        acls: None,
        grants: None,
        groups: Vec::new(),
        tag_owners: Vec::new(),
        hosts: Vec::new(),
        ipsets: Vec::new(),
        postures: Vec::new(),
        default_posture: Vec::new(),
        tests: Vec::new(),
        venues: Vec::new(),
        boundaries: Vec::new(),
        on_deny: OnDeny::Drop,
        approvers: Vec::new(),
        grantable: Vec::new(),
        quarantine: grants::quarantining(),
        granted: Vec::new(),
        ssh: Vec::new(),
        ssh_tests: Vec::new(),
        not_enforced: Vec::new(),
        approved: Vec::new(),
        not_understood: Vec::new(),
    };
    let ours: &[&str] = if dialect == Dialect::Bulkhead { &OURS } else { &[] };
    let known: Vec<&str> =
        SECTIONS.into_iter().chain(NOT_ENFORCED.map(|(name, _)| name)).chain(ours.iter().copied()).collect();
    policy.not_understood = sections::unknown(reader, object, &known, &OURS);
    let passed_over: std::collections::HashSet<&str> =
        policy.not_understood.iter().map(|name| name.value.as_str()).collect();
    let mut quarantine = None;
    for (name, property) in reader.fields_but(object, "a policy", &known, &passed_over) {
        let value = &property.value;
        match name {
            "acls" => policy.acls = rules::list(reader, value, "acls", |r, v| rules::acl(r, v, dialect)),
            "grants" => {
                policy.grants = rules::list(reader, value, "grants", |r, v| rules::grant(r, v, dialect));
            }
            "tests" => {
                policy.tests =
                    rules::list(reader, value, "tests", |r, v| test::test(r, v, dialect)).unwrap_or_default();
            }
            "groups" => policy.groups = members(reader, value, "groups", "group:"),
            "tagOwners" => policy.tag_owners = tag_owners(reader, value, dialect),
            "hosts" => policy.hosts = hosts(reader, value),
            "venues" => policy.venues = venues::venues(reader, value),
            "boundaries" => policy.boundaries = boundaries::boundaries(reader, value, dialect),
            "onDeny" => policy.on_deny = rules::on_deny(reader, value).unwrap_or_default(),
            "approvers" => policy.approvers = grants::approvers(reader, value),
            "grantable" => policy.grantable = grants::grantable(reader, value, dialect),
            "quarantine" => quarantine = grants::quarantine(reader, value),
            "granted" => policy.granted = grants::granted(reader, value, dialect),
            "ipsets" => policy.ipsets = ipsets(reader, value),
            "postures" => policy.postures = postures(reader, value),
            "defaultSrcPosture" => policy.default_posture = reader.strings(value, name).unwrap_or_default(),
            other => {
                let shape = NOT_ENFORCED.iter().find(|(name, _)| *name == other).map(|(_, shape)| *shape);
                match (dialect, other) {
                    (Dialect::Tailscale, "ssh") => policy.ssh = ssh::rules(reader, value),
                    (Dialect::Tailscale, "sshTests") => policy.ssh_tests = ssh::tests(reader, value),
                    _ => shape_check(reader, other, value, shape),
                }
                if other == "autoApprovers" {
                    policy.approved = approved(value);
                }
                policy.not_enforced.push(Spanned::new(other.to_string(), property.span));
            }
        }
    }
    policy.not_enforced.extend(policy.not_understood.iter().cloned());
    grants::check(reader, &policy.approvers, &policy.grantable);
    if let Some((quarantine, at)) = quarantine {
        grants::check_people(reader, &policy.approvers, (&quarantine.by, quarantine.approvals, at));
        policy.quarantine = quarantine;
    }
    policy
}

/// The routes that somebody may approve: what may be behind routers. Nothing here enforces the section, so what
/// cannot be read in it is passed over.
fn approved(value: &Value<'_>) -> Vec<IpNet> {
    let Kind::Object(section) = &value.kind else { return Vec::new() };
    let is_list = |value: &&Value<'_>| matches!(&value.kind, Kind::Array(approvers) if !approvers.is_empty());
    let mut all = Vec::new();
    if let Some(Value { kind: Kind::Object(routes), .. }) = section.get("routes") {
        let routes = routes.members.iter().filter(|route| is_list(&&route.value));
        all.extend(routes.filter_map(|route| route.name.parse::<IpNet>().ok()).map(|net| net.trunc()));
    }
    if section.get("exitNode").is_some_and(|exits| is_list(&exits)) {
        all.extend([IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())]);
    }
    all
}

fn shape_check(reader: &mut Reader<'_>, name: &str, value: &Value<'_>, shape: Option<Shape>) {
    match shape {
        Some(Shape::Object) => drop(reader.object(value, name).map(|_| ())),
        Some(Shape::List) => drop(reader.array(value, name).map(|_| ())),
        Some(Shape::Boolean) => drop(reader.boolean(value, name)),
        Some(Shape::Text) => drop(reader.string(value, name)),
        None => {}
    }
}
