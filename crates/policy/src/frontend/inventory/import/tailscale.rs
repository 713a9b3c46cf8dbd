//! `tailscale status --json` (`ipn/ipnstate.Status`): this node and the peers that it sees.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Import, Listed, Lister, object};
use crate::frontend::diagnostic::{Diagnostic, Findings, Severity};
use crate::frontend::inventory::{Owner, SHARED, User};
use crate::frontend::json::{self, Kind, Object};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

/// How Tailscale calls the relays of Funnel, some two dozen in a status, and what they carry.
const RELAY: (&str, &str) = ("funnel-ingress-node", "tag:ingress");

/// What Mullvad's exits carry, some 500 in a status.
const MULLVAD: &str = "tag:mullvad-exit-node";

/// How many machines a note names.
const NAMED: usize = 8;

const UNCHANGED: &str = "import what `tailscale status --json` printed, unchanged";

/// Whose a peer is.
enum Peer {
    /// This tailnet's.
    Own(Listed),
    /// Of a user of another tailnet with whom a machine of this one is shared; with the login, if the device
    /// is a user's.
    Sharee(Listed, Option<String>),
    /// What another tailnet shares with this one, or an exit of Mullvad's: Tailscale lets it answer and never
    /// start.
    Jailed(Listed),
}

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
    if let Some(state) = lister.text(status, "BackendState").filter(|state| state != "Running") {
        let span = status.get("BackendState").map_or(status.span, |value| value.span);
        let message = format!("Tailscale is not up here: its state is {state}");
        lister.error(span, message, "run `tailscale up`, then import what `tailscale status --json` prints");
        return None;
    }
    let logins = logins(&mut lister, status);
    let tailnet = status.get("CurrentTailnet").and_then(object);
    let suffix = lister.text(status, "MagicDNSSuffix");
    let suffix = suffix.or_else(|| lister.text(tailnet?, "MagicDNSSuffix"));
    // Without it nobody would be told from those outside: this node's own name has it too.
    let mut own_name = || lister.text(own, "DNSName");
    let suffix = suffix.or_else(|| Some(own_name()?.trim_end_matches('.').split_once('.')?.1.to_owned()));
    let suffix = suffix.unwrap_or_default().to_lowercase();
    let members = status.get("Peer").map(|peers| (peers.span, object(peers)));
    let peers = match members {
        Some((_, Some(peers))) => &peers.members[..],
        Some((span, None)) => {
            lister.error(span, "Peer is no object".into(), UNCHANGED);
            return None;
        }
        None => &[],
    };
    let (mut all, mut relays) = (Vec::new(), 0);
    for listed in
        std::iter::once(Ok(own)).chain(peers.iter().map(|peer| object(&peer.value).ok_or(peer.span)))
    {
        let listed = match listed {
            Ok(listed) => listed,
            Err(span) => {
                lister.error(span, "a peer is an object".into(), UNCHANGED);
                continue;
            }
        };
        if is_relay(&mut lister, listed) {
            relays += 1;
        } else {
            all.extend(peer(&mut lister, listed, &suffix, &logins));
        }
    }
    if peers.is_empty() {
        let message = "the status has no peers: the inventory has this node alone";
        let note = Diagnostic::global(Severity::Note, message);
        findings.push(note.help("leave out --peers=false"));
    }
    jailed(&all, findings);
    let import = told_apart(all, findings);
    if relays > 0 {
        let subject =
            if relays == 1 { "one relay of Funnel is" } else { &format!("{relays} relays of Funnel are") };
        let message = format!("{subject} left out: packets from there are dropped");
        let note = Diagnostic::global(Severity::Note, message);
        findings.push(note.help("to let Funnel in, write a rule with the relays' addresses as its source"));
    }
    Some(import)
}

fn is_relay(lister: &mut Lister<'_>, listed: &Object<'_>) -> bool {
    let (name, tag) = RELAY;
    lister.text(listed, "HostName").as_deref() == Some(name)
        && listed
            .get("DNSName")
            .is_none_or(|value| matches!(&value.kind, Kind::String(text) if text.is_empty()))
        && lister.flag(listed, "ShareeNode")
        && lister.tags(listed, &["Tags"]).iter().any(|carried| carried == tag)
}

/// One note of all that may not start anything.
fn jailed(peers: &[Peer], findings: &mut Findings) {
    let name = |peer: &Peer| match peer {
        Peer::Jailed(node) => Some(node.name.clone()),
        _ => None,
    };
    let mut names: Vec<String> = peers.iter().filter_map(name).collect();
    let (count, most) = (names.len(), names.len().saturating_sub(NAMED));
    if count == 0 {
        return;
    }
    names.sort();
    names.truncate(NAMED);
    names.extend((most > 0).then(|| format!("{most} more")));
    let (subject, they) = match count {
        1 => ("one machine that is not of this tailnet is".to_owned(), "it"),
        _ => (format!("{count} machines that are not of this tailnet are"), "they"),
    };
    let names = names.join(", ");
    let message = format!("{subject} jailed: as in Tailscale {they} may answer, and start nothing: {names}");
    let note = Diagnostic::global(Severity::Note, message);
    findings
        .push(note.help("as a destination, * and the address mean such a machine; as a source no rule does"));
}

/// The nodes, and the users with their roles. Whoever has a device in this tailnet is a member; a device
/// of theirs in another tailnet is nobody's here.
fn told_apart(peers: Vec<Peer>, findings: &mut Findings) -> Import {
    let member = |peer: &Peer| match peer {
        Peer::Own(Listed { owner: Some(Owner::User(login)), .. }) => Some(login.clone()),
        _ => None,
    };
    let members: HashSet<String> = peers.iter().filter_map(member).collect();
    let mut import = Import::default();
    let user =
        |login: &String, roles| User { login: login.clone(), roles, aliases: Vec::new(), source: None };
    import.users.extend(members.iter().map(|login| user(login, Vec::new())));
    for peer in peers {
        let node = match peer {
            Peer::Own(node) | Peer::Jailed(node) | Peer::Sharee(node, None) => node,
            Peer::Sharee(node, Some(login)) if members.contains(&login) => {
                let message =
                    format!("{} is {login}'s in another tailnet: no user or tag means it", node.name);
                let note = Diagnostic::global(Severity::Note, message);
                findings.push(note.help("name its address in a rule that admits it"));
                node
            }
            Peer::Sharee(node, Some(login)) => {
                import.users.push(user(&login, vec![SHARED.to_owned()]));
                Listed { owner: Some(Owner::User(login)), ..node }
            }
        };
        import.nodes.push(node);
    }
    import
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

fn peer(
    lister: &mut Lister<'_>,
    listed: &Object<'_>,
    suffix: &str,
    logins: &HashMap<String, String>,
) -> Option<Peer> {
    let full = lister.text(listed, "DNSName").map(|name| name.trim_end_matches('.').to_lowercase());
    // A node that another tailnet shares keeps that tailnet's name: two may be called alike.
    let own = full.as_deref().and_then(|name| name.strip_suffix(suffix)?.strip_suffix('.'));
    let elsewhere = full.is_some() && own.is_none() && !suffix.is_empty();
    let tags = lister.tags(listed, &["Tags"]);
    let sharee = lister.flag(listed, "ShareeNode");
    let outside = sharee || elsewhere || tags.iter().any(|tag| tag == MULLVAD);
    let number = match listed.get("UserID").map(|value| &value.kind) {
        Some(Kind::Number(digits)) => (*digits).to_owned(),
        _ => String::new(),
    };
    let login = logins.get(&number).cloned();
    let named = own.filter(|_| !outside).map(str::to_owned).or(full);
    let by_host = |host: String| match &login {
        Some(login) if outside => format!("{host} ({login})"),
        _ => host,
    };
    let Some(name) = named.or_else(|| lister.text(listed, "HostName").map(by_host)) else {
        lister.error(listed.span, "a node without a name".into(), "name it in Tailscale's admin console");
        return None;
    };
    let owner = match &login {
        // Another tailnet's tags mean nothing here.
        _ if outside => Owner::Tags(Vec::new()),
        _ if !tags.is_empty() => Owner::Tags(tags),
        Some(login) => Owner::User(login.clone()),
        None => {
            let message = format!("{name} has neither tags nor a user that the status names");
            lister.error(listed.span, message, "tag it, or import the status of a node that sees its user");
            return None;
        }
    };
    let mut routes: Vec<IpNet> = lister.parsed(listed, "PrimaryRoutes").unwrap_or_default();
    if lister.flag(listed, "ExitNodeOption") {
        routes.extend([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
    }
    let mut posture = Attributes::new();
    if let Some(system) = lister.text(listed, "OS") {
        posture.insert("node:os".to_owned(), system.to_lowercase().into());
    }
    let node = Listed {
        key: lister.key(listed, "PublicKey"),
        addresses: lister.parsed(listed, "TailscaleIPs"),
        routes: Some(routes),
        owner: Some(owner),
        posture,
        posture_expires: BTreeMap::new(),
        expires: Some(lister.moment(listed, "KeyExpiry")),
        jailed: Some(outside && !sharee),
        name,
    };
    lister.identified(&node, listed.span);
    // The user of tagged devices is nobody's login.
    Some(match (outside, sharee) {
        (_, true) => Peer::Sharee(node, login.filter(|login| login.contains('@'))),
        (true, false) => Peer::Jailed(node),
        (false, false) => Peer::Own(node),
    })
}
