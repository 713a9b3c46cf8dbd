//! Logins that the policy names and no device has: somebody on holiday, a new joiner, or a mistake.

use std::collections::{BTreeMap, HashSet};

use super::directory::Directory;
use super::sets::{Place, Unresolved};
use crate::frontend::diagnostic::{Diagnostic, Severity};
use crate::frontend::policy::{Action, Policy, Selector};
use crate::frontend::source::{Span, Spanned};
use crate::suggest;

/// Logins without a device, each with the first place that names it.
#[derive(Default)]
pub(super) struct Absent {
    admitted: BTreeMap<String, Span>,
    /// Those that a deny or a boundary is about.
    denied: BTreeMap<String, Span>,
    /// Those that were complained of.
    wrong: HashSet<String>,
    seen: HashSet<(Selector, Action)>,
}

/// How many logins one finding names.
const MOST: usize = 10;

impl Absent {
    /// Keeps in mind whom a selector names and no device has. Returns what is wrong with it: the misspelt logins to
    /// whom nothing would be denied.
    pub(super) fn note(
        &mut self,
        policy: &Policy,
        directory: &Directory<'_>,
        selector: &Spanned<Selector>,
        place: Place,
    ) -> Vec<(Span, Unresolved)> {
        let named = match &selector.value {
            Selector::User(login) => vec![(login.clone(), selector.span)],
            Selector::Group(_) if !self.seen.insert((selector.value.clone(), place.action)) => {
                return Vec::new();
            }
            Selector::Group(group) => {
                let groups = policy.groups.iter().filter(|(name, _)| name.value == *group);
                let members = groups.flat_map(|(_, members)| members);
                members.map(|member| (member.value.to_lowercase(), member.span)).collect()
            }
            _ => return Vec::new(),
        };
        let mut wrong = Vec::new();
        for (login, span) in named.into_iter().filter(|(login, _)| !directory.has_device(login)) {
            let meant = match place.action {
                Action::Deny if !directory.knows(&login) => suggest::login(&login, directory.logins()),
                _ => None,
            };
            match (place.action, meant) {
                (Action::Deny, Some(meant)) => {
                    let message = format!("user not found: \"{login}\", which would be denied nothing");
                    let help = format!("did you mean \"{meant}\"? If not, add it to the inventory's users");
                    self.wrong.insert(login);
                    wrong.push((span, Unresolved { message, help: Some(help) }));
                }
                (Action::Deny, None) => drop(self.denied.entry(login).or_insert(span)),
                (Action::Accept, _) => drop(self.admitted.entry(login).or_insert(span)),
            }
        }
        wrong
    }

    /// What there is to say of them: one warning for all that nothing is denied to, and one note for all that
    /// nobody is admitted by.
    pub(super) fn findings(mut self, policy: &Policy, directory: &Directory<'_>) -> Vec<Diagnostic> {
        for (_, members) in &policy.groups {
            for member in members.iter().filter(|member| member.value.contains('@')) {
                let login = member.value.to_lowercase();
                // Who is known and in no rule is nothing to tell of.
                if !member.value.starts_with("group:") && !directory.knows(&login) {
                    self.admitted.entry(login).or_insert(member.span);
                }
            }
        }
        let Self { mut admitted, denied, wrong, .. } = self;
        admitted.retain(|login, _| !denied.contains_key(login) && !wrong.contains(login));
        let help = "a device that joins is meant once the inventory lists it: import it again";
        let so = if denied.len() == 1 {
            "and so nothing is denied to it"
        } else {
            "and so nothing is denied to them"
        };
        let denied = finding(policy, &denied, Severity::Warning, so, help);
        let mut unknown = admitted.keys().filter(|login| !directory.knows(login));
        let meant = unknown.find_map(|login| Some((login, suggest::login(login, directory.logins())?)));
        let help = match meant {
            Some((login, meant)) => format!("does \"{login}\" mean \"{meant}\"?"),
            None => "if one has a device by now, import the inventory again".into(),
        };
        let so = if admitted.len() == 1 { "and is nobody here" } else { "and are nobody here" };
        let admitted = finding(policy, &admitted, Severity::Note, so, &help);
        denied.into_iter().chain(admitted).collect()
    }
}

fn finding(
    policy: &Policy,
    logins: &BTreeMap<String, Span>,
    severity: Severity,
    so: &str,
    help: &str,
) -> Option<Diagnostic> {
    let first = logins.values().min()?;
    let mut names: Vec<&str> = logins.keys().take(MOST).map(String::as_str).collect();
    let more = format!("{} more", logins.len() - names.len());
    if logins.len() > names.len() {
        names.push(&more);
    }
    let subject = if logins.len() == 1 { "one user" } else { &format!("{} users", logins.len()) };
    let has = if logins.len() == 1 { "has" } else { "have" };
    let message = format!("{subject} of the policy {has} no device {so}: {}", names.join(", "));
    Some(Diagnostic::at(severity, &policy.source, *first, message).help(help))
}
