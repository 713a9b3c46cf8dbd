//! A policy file as written: its sections with their places, nothing resolved yet.

mod boundaries;
mod capability;
pub mod compose;
mod definitions;
mod fields;
mod grants;
pub mod ipset;
mod parse;
mod ports;
pub mod posture;
mod record;
mod rules;
mod sections;
mod selector;
pub mod ssh;
mod test;
mod tls;
mod venues;

pub(crate) use definitions::attributes;
pub(crate) use grants::{destination, protocol_of};
pub use parse::parse;
pub use record::Record;
pub(crate) use rules::expires;
pub use selector::{Autogroup, Selector};
pub(crate) use test::{FAILED, ONE_HOST};
pub use tls::{Starttls, Tls, TlsMode};

use std::net::IpAddr;

use bulkhead_grants::PublicKey;
use ipnet::IpNet;

use crate::frontend::source::{Source, Span, Spanned};
use crate::interval::Intervals;
use ipset::Step;
use posture::{Assertion, Attributes};

/// One policy file.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file.
    pub source: Source,
    /// `acls`, if the section is there.
    pub acls: Option<Vec<Rule>>,
    /// `grants`, if the section is there.
    pub grants: Option<Vec<Rule>>,
    /// `groups`: name and members (users, or other groups).
    pub groups: Vec<(Spanned<String>, Vec<Spanned<String>>)>,
    /// `tagOwners`: tag and owners.
    pub tag_owners: Vec<(Spanned<String>, Vec<Spanned<String>>)>,
    /// `hosts`: name and prefix.
    pub hosts: Vec<(Spanned<String>, IpNet)>,
    /// `ipsets`: name and steps, in order.
    pub ipsets: Vec<(Spanned<String>, Vec<Spanned<Step>>)>,
    /// `postures`: name and assertions, all of which must hold.
    pub postures: Vec<(Spanned<String>, Vec<Assertion>)>,
    /// `defaultSrcPosture`: for rules that name no posture.
    pub default_posture: Vec<Spanned<String>>,
    /// `tests`.
    pub tests: Vec<Test>,
    /// `venues`, ours.
    pub venues: Vec<Venue>,
    /// `boundaries`, ours.
    pub boundaries: Vec<Boundary>,
    /// `onDeny`, ours: what becomes of what no rule admits, and of what rules deny that do not say.
    pub on_deny: OnDeny,
    /// `approvers`, ours: who may approve grants.
    pub approvers: Vec<Approver>,
    /// `grantable`, ours: what may be granted.
    pub grantable: Vec<Grantable>,
    /// `quarantine`, ours: who may have a node cut off on every host of a fleet.
    pub quarantine: Quarantining,
    /// `granted`, ours: grants that run, as rules. The agent writes them.
    pub granted: Vec<Rule>,
    /// `ssh`, in Tailscale's dialect only.
    pub ssh: Vec<ssh::SshRule>,
    /// `sshTests`, in Tailscale's dialect only.
    pub ssh_tests: Vec<ssh::SshTest>,
    /// Sections that are Tailscale's and none of ours to enforce.
    pub not_enforced: Vec<Spanned<String>>,
    /// `autoApprovers`, as far as it can be read: the routes.
    pub approved: Vec<IpNet>,
    /// Those of them that nobody here knows.
    pub not_understood: Vec<Spanned<String>>,
}

impl Policy {
    /// How many rules acls and grants hold.
    #[must_use]
    pub fn rules(&self) -> u32 {
        self.acls.iter().chain(&self.grants).map(|rules| rules.len() as u32).sum()
    }
}

/// The section a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The agent's configuration: management access.
    Management,
    /// The agent's configuration: WireGuard's own transport.
    WireGuard,
    /// The agent's configuration: what overlays serve on the node itself.
    Overlay,
    /// The agent's configuration: what else passes on underlay interfaces.
    Underlay,
    /// `venues`: a lane or a default deny.
    Venues,
    /// `acls`.
    Acls,
    /// `grants`.
    Grants,
    /// `granted`: access that ends, tried last of all.
    Granted,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Admits.
    Accept,
    /// Denies.
    Deny,
}

/// What whoever begins a conversation hears of its not being admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeny {
    /// Nothing.
    #[default]
    Drop,
    /// A TCP reset, or an ICMP error.
    Reject,
}

/// One line of acls or grants.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The whole object.
    pub span: Span,
    /// The section it stands in.
    pub section: Section,
    /// `name`, ours.
    pub name: Option<Spanned<String>>,
    /// `action`; grants accept unless they say otherwise.
    pub action: Action,
    /// `onDeny` of a deny, ours.
    pub on_deny: Option<OnDeny>,
    /// `src`.
    pub sources: Vec<Spanned<Selector>>,
    /// `dst`, each with the services that the rule is about there.
    pub destinations: Vec<Destination>,
    /// `srcPosture`: the source must be a device that meets one of these.
    pub posture: Vec<Spanned<String>>,
    /// `via`: tags of the routers that carry it.
    pub via: Vec<Spanned<String>>,
    /// `expires`, ns since the Unix epoch, ours.
    pub expires: Option<Spanned<u64>>,
    /// `maxPacketsPerSecond` and `maxNewPerSecond`, ours.
    pub rates: Rates,
    /// `tls` and `starttls`, ours.
    pub tls: Option<Tls>,
    /// `owner`, `ticket`, `reason` and `reviewBy`, ours.
    pub record: Record,
    /// What it is of, if it is one of `granted`.
    pub grant: Option<Grant>,
}

/// Who has asked for a rule of `granted`, and who has approved it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// What it is known by: 32 hexadecimal digits.
    pub id: String,
    /// Who has asked for it.
    pub requester: String,
    /// Who has approved it.
    pub approvers: Vec<String>,
    /// It was an emergency: one signature has sufficed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// One entry of `approvers`.
#[derive(Clone, Debug)]
pub struct Approver {
    /// The name that stands before their signatures.
    pub name: Spanned<String>,
    /// Their keys.
    pub keys: Vec<Spanned<PublicKey>>,
}

/// One entry of `grantable`: what may be granted, for how long, and by whom.
#[derive(Clone, Debug)]
pub struct Grantable {
    /// The whole object.
    pub span: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `src`.
    pub sources: Vec<Spanned<Selector>>,
    /// `dst`, each with its services.
    pub destinations: Vec<Destination>,
    /// `longest`, in seconds.
    pub longest: Spanned<u64>,
    /// `approvals`: how many people are to sign.
    pub approvals: u32,
    /// Where that is written.
    pub approvals_at: Span,
    /// `by`: who of the approvers may; empty: any of them.
    pub by: Vec<Spanned<String>>,
    /// `breakGlass`: one signature suffices.
    pub break_glass: bool,
}

/// `quarantine`: how many of the approvers, and which of them, may have a node cut off on every host of a fleet, or lift
/// that.
#[derive(Clone, Debug)]
pub struct Quarantining {
    /// `approvals`: how many people are to sign.
    pub approvals: u32,
    /// `by`: who of the approvers may; empty: any of them.
    pub by: Vec<Spanned<String>>,
}

/// What a rule or a lane admits a second at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Rates {
    /// `maxPacketsPerSecond`; 1 to 10^9.
    #[serde(rename = "maxPacketsPerSecond", skip_serializing_if = "Option::is_none")]
    pub packets: Option<u32>,
    /// `maxNewPerSecond`: flows that begin; 1 to 10^9.
    #[serde(rename = "maxNewPerSecond", skip_serializing_if = "Option::is_none")]
    pub new_flows: Option<u32>,
}

/// One entry of `venues`: an exchange's addresses, and what may pass between them and us.
#[derive(Clone, Debug)]
pub struct Venue {
    /// `venue:NAME`.
    pub name: Spanned<String>,
    /// `addresses`.
    pub addresses: Vec<Spanned<IpNet>>,
    /// `feeds`: lanes that the venue's side opens.
    pub feeds: Vec<Lane>,
    /// `sessions`: lanes that our side opens.
    pub sessions: Vec<Lane>,
}

/// A feed or a session.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The whole object.
    pub span: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// The venue's end: a feed's `from`, a session's `to`.
    pub theirs: Vec<Spanned<IpNet>>,
    /// Our end: a feed's `to`, a session's `from`.
    pub ours: Vec<Spanned<Selector>>,
    /// A feed's multicast `groups`: the destination in place of our addresses.
    pub groups: Vec<Spanned<IpNet>>,
    /// `proto` and `ports`.
    pub service: (u8, Intervals<u16>),
    /// `oneWay`: it starts no flow and admits no reply.
    pub one_way: bool,
    /// `expires`, ns since the Unix epoch.
    pub expires: Option<Spanned<u64>>,
    /// `maxPacketsPerSecond` and `maxNewPerSecond`.
    pub rates: Rates,
}

/// One entry of `boundaries`: sides that nothing crosses between, whatever the rules say.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// The whole object.
    pub span: Span,
    /// `name`.
    pub name: Spanned<String>,
    /// `between`: two sides or more.
    pub sides: Vec<Vec<Spanned<Selector>>>,
    /// `only`: what rules may admit across it all the same.
    pub only: Vec<Exception>,
}

/// One entry of a boundary's `only`.
#[derive(Clone, Debug)]
pub struct Exception {
    /// `src`.
    pub sources: Vec<Spanned<Selector>>,
    /// `dst`, each with its services.
    pub destinations: Vec<Destination>,
}

/// One destination of a rule.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Who.
    pub selector: Spanned<Selector>,
    /// Protocol (none: the default ones) and ports, each.
    pub services: Vec<(Option<u8>, Intervals<u16>)>,
}

/// One entry of `tests`.
#[derive(Clone, Debug)]
pub struct Test {
    /// The whole object.
    pub span: Span,
    /// `src`.
    pub source: Spanned<Selector>,
    /// `srcPostureAttrs`: what the source's device is assumed to be.
    pub attributes: Option<Attributes>,
    /// `proto`; none means TCP or UDP.
    pub protocol: Option<u8>,
    /// `accept`: every one must be admitted.
    pub accept: Vec<TestTarget>,
    /// `deny`: none may be admitted.
    pub deny: Vec<TestTarget>,
}

/// One destination of a test.
#[derive(Clone, Debug)]
pub struct TestTarget {
    /// Who.
    pub selector: Spanned<Selector>,
    /// The port.
    pub port: u16,
}

/// A closed address range.
pub type AddressRange = (IpAddr, IpAddr);
