//! A policy file as written: its sections with their places, nothing resolved yet.

mod definitions;
pub mod ipset;
mod parse;
mod ports;
pub mod posture;
mod rules;
mod target;
mod test;

pub(crate) use definitions::attributes;
pub use parse::parse;
pub(crate) use rules::expires;
pub use target::{Autogroup, Selector};

use std::net::IpAddr;

use ipnet::IpNet;

use crate::interval::Intervals;
use crate::source::{Source, Span, Spanned};
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
    /// Sections that are Tailscale's and none of ours to enforce.
    pub not_enforced: Vec<Spanned<String>>,
}

/// The section a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// `acls`.
    Acls,
    /// `grants`.
    Grants,
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
