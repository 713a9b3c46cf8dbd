//! What roles of interfaces allow, and whose zones are.

use bulkhead_api::hook::Kind;

use super::{HookChoice, LOOPBACK, Link, Managed, Role};

/// What is wrong with a role for an interface of a name.
pub(super) fn misplaced(name: &str, role: Role, hook: Option<HookChoice>, link: &[Link]) -> Option<String> {
    match (name == LOOPBACK, role == Role::Local) {
        (true, false) => {
            Some("interface lo: its role is \"local\"; write role = \"local\", or remove it".to_owned())
        }
        (false, true) => {
            Some(format!("interface {name}: the role \"local\" is that of lo; remove it, or name lo"))
        }
        (true, true) if hook == Some(HookChoice::Xdp) || !link.is_empty() => {
            Some("interface lo: it has neither XDP nor link protocols; remove `hook` and `link`".to_owned())
        }
        _ => None,
    }
}

/// The first exchange or underlay interface whose zone one of another role has, too, and that role.
pub(super) fn shared_zone(interfaces: &[Managed]) -> Option<(usize, u16, Role)> {
    let zones = |managed: &Managed| [Kind::BareIp, Kind::Ethernet].map(|kind| managed.zone(kind));
    let mut others = interfaces.iter().enumerate().filter(|(_, managed)| managed.role != Role::Overlay);
    others.find_map(|(index, managed)| {
        let [zone, _] = zones(managed);
        let is_shared = |other: &&Managed| other.role != managed.role && zones(other).contains(&zone);
        interfaces.iter().find(is_shared).map(|other| (index, zone, other.role))
    })
}

/// Whose a zone is, by a role.
pub(super) const fn whose(role: Role) -> &'static str {
    match role {
        Role::Overlay => "an overlay's",
        Role::Exchange => "an exchange interface's",
        Role::Underlay => "an underlay interface's",
        Role::Local => "that of lo",
    }
}
