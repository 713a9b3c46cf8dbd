//! `tailscale status --json` (`ipn/ipnstate.Status`): this node and the peers that it sees.

use std::collections::HashMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Import, Listed, Lister, moment, object};
use crate::diagnostic::Findings;
use crate::inventory::Owner;
use crate::json::{self, Kind, Object};
use crate::policy::posture::Attributes;
use crate::source::{Source, Span};

/// Reads the list. What is wrong with it goes to `findings`.
pub fn tailscale(source: &Source, findings: &mut Findings) -> Option<Import> {
    let value = json::value(source, findings)?;
    let mut lister = Lister { source, findings };
    let own = object(&value).and_then(|status| Some((status, object(status.get("Self")?)?)));
    let Some((status, own)) = own else {
        let help = "import what `tailscale status --json` prints on a node that is up";
        lister.error(Span::default(), "this is no status of Tailscale: it has no \"Self\"".into(), help);
        return None;
    };
    let logins = logins(&mut lister, status);
    let suffix = lister.text(status, "MagicDNSSuffix").unwrap_or_default();
    let mut import = Import::default();
    let peers = status.get("Peer").and_then(object).map_or(&[][..], |peers| &peers.members);
    let peers = peers.iter().filter_map(|peer| object(&peer.value));
    for listed in std::iter::once(own).chain(peers) {
        if let Some(node) = node(&mut lister, listed, &suffix, &logins) {
            if let Some(Owner::User(login)) = &node.owner {
                import.logins.push(login.clone());
            }
            import.nodes.push(node);
        }
    }
    Some(import)
}

/// Logins by the numbers that nodes name.
fn logins(lister: &mut Lister<'_>, status: &Object<'_>) -> HashMap<String, String> {
    let users = status.get("User").and_then(object).map_or(&[][..], |users| &users.members);
    let each = users.iter().filter_map(|user| {
        let login = lister.text(object(&user.value)?, "LoginName")?;
        Some((user.name.to_string(), login.to_lowercase()))
    });
    each.collect()
}

fn node(
    lister: &mut Lister<'_>,
    listed: &Object<'_>,
    suffix: &str,
    logins: &HashMap<String, String>,
) -> Option<Listed> {
    let full = lister.text(listed, "DNSName").map(|name| name.trim_end_matches('.').to_lowercase());
    // A node that another tailnet shares keeps that tailnet's name: two may be called alike.
    let own = full.as_deref().and_then(|name| name.strip_suffix(suffix)?.strip_suffix('.'));
    let Some(name) = own.map(str::to_owned).or(full).or_else(|| lister.text(listed, "HostName")) else {
        lister.error(listed.span, "a node without a name".into(), "name it in Tailscale's admin console");
        return None;
    };
    let tags = lister.tags(listed, &["Tags"]);
    let owner = if tags.is_empty() {
        let number = match listed.get("UserID").map(|value| &value.kind) {
            Some(Kind::Number(digits)) => (*digits).to_owned(),
            _ => String::new(),
        };
        let login = logins.get(&number).cloned();
        if login.is_none() {
            let message = format!("{name} has neither tags nor a user that the status names");
            lister.error(listed.span, message, "tag it, or import the status of a node that sees its user");
        }
        Owner::User(login?)
    } else {
        Owner::Tags(tags)
    };
    let mut routes: Vec<IpNet> = lister.parsed(listed, "PrimaryRoutes").unwrap_or_default();
    if matches!(listed.get("ExitNodeOption").map(|value| &value.kind), Some(Kind::Boolean(true))) {
        routes.extend([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
    }
    let mut posture = Attributes::new();
    if let Some(system) = lister.text(listed, "OS") {
        posture.insert("node:os".to_owned(), system.to_lowercase().into());
    }
    Some(Listed {
        key: lister.key(listed, "PublicKey"),
        addresses: lister.parsed(listed, "TailscaleIPs"),
        routes: Some(routes),
        owner: Some(owner),
        posture,
        expires: Some(lister.text(listed, "KeyExpiry").and_then(|time| moment(&time))),
        name,
    })
}
