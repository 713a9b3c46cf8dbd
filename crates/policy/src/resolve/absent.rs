//! Logins that the policy names and no device has: somebody on holiday, a new joiner, or a mistake.

use std::collections::{BTreeMap, HashSet};

use super::resolver::Resolver;
use super::sets::{Place, Unresolved};
use crate::frontend::diagnostic::{Diagnostic, Severity};
use crate::frontend::policy::{Action, Selector};
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

impl Resolver<'_> {
    /// Whether a selector is a login that has no device.
    pub(super) fn is_absent(&self, selector: &Selector) -> bool {
        matches!(selector, Selector::User(login) if !self.sets.directory.has_device(login))
    }

    /// Keeps in mind whom a selector names and no device has.
    pub(super) fn note_absent(&mut self, selector: &Spanned<Selector>, place: Place) {
        let policy = self.policy;
        let named = match &selector.value {
            Selector::User(login) => vec![(login.clone(), selector.span)],
            Selector::Group(_) if !self.absent.seen.insert((selector.value.clone(), place.action)) => return,
            Selector::Group(group) => {
                let groups = policy.groups.iter().filter(|(name, _)| name.value == *group);
                let members = groups.flat_map(|(_, members)| members);
                members.map(|member| (member.value.to_lowercase(), member.span)).collect()
            }
            _ => return,
        };
        for (login, span) in named {
            if !self.sets.directory.has_device(&login) {
                let (absent, directory) = (&mut self.absent, &self.sets.directory);
                let meant = match place.action {
                    Action::Deny if !directory.knows(&login) => suggest::login(&login, directory.logins()),
                    _ => None,
                };
                match (place.action, meant) {
                    (Action::Deny, Some(meant)) => {
                        let message = format!("user not found: \"{login}\", which would be denied nothing");
                        absent.wrong.insert(login);
                        let help =
                            format!("did you mean \"{meant}\"? If not, add it to the inventory's users");
                        self.complain(span, Unresolved { message, help: Some(help) });
                    }
                    (Action::Deny, None) => drop(absent.denied.entry(login).or_insert(span)),
                    (Action::Accept, _) => drop(absent.admitted.entry(login).or_insert(span)),
                }
            }
        }
    }

    /// Tells of them: one note for all that nobody is admitted by, and one warning for all that nothing
    /// is denied to.
    pub(super) fn tell_absent(&mut self) {
        let policy = self.policy;
        for (_, members) in &policy.groups {
            for member in members.iter().filter(|member| member.value.contains('@')) {
                let login = member.value.to_lowercase();
                // Who is known and in no rule is nothing to tell of.
                if !member.value.starts_with("group:") && !self.sets.directory.knows(&login) {
                    self.absent.admitted.entry(login).or_insert(member.span);
                }
            }
        }
        let denied = std::mem::take(&mut self.absent.denied);
        let mut admitted = std::mem::take(&mut self.absent.admitted);
        let wrong = std::mem::take(&mut self.absent.wrong);
        admitted.retain(|login, _| !denied.contains_key(login) && !wrong.contains(login));
        let help = "a device that joins is meant once the inventory lists it: import it again";
        let so = if denied.len() == 1 {
            "and so nothing is denied to it"
        } else {
            "and so nothing is denied to them"
        };
        self.tell(&denied, Severity::Warning, so, help);
        let directory = &self.sets.directory;
        let mut unknown = admitted.keys().filter(|login| !directory.knows(login));
        let meant = unknown.find_map(|login| Some((login, suggest::login(login, directory.logins())?)));
        let help = match meant {
            Some((login, meant)) => format!("does \"{login}\" mean \"{meant}\"?"),
            None => "if one has a device by now, import the inventory again".into(),
        };
        let so = if admitted.len() == 1 { "and is nobody here" } else { "and are nobody here" };
        self.tell(&admitted, Severity::Note, so, &help);
    }

    fn tell(&mut self, logins: &BTreeMap<String, Span>, severity: Severity, so: &str, help: &str) {
        let Some(first) = logins.values().min() else { return };
        let mut names: Vec<&str> = logins.keys().take(MOST).map(String::as_str).collect();
        let more = format!("{} more", logins.len() - names.len());
        if logins.len() > names.len() {
            names.push(&more);
        }
        let subject = if logins.len() == 1 { "one user" } else { &format!("{} users", logins.len()) };
        let has = if logins.len() == 1 { "has" } else { "have" };
        let message = format!("{subject} of the policy {has} no device {so}: {}", names.join(", "));
        let finding = Diagnostic::at(severity, &self.policy.source, *first, message);
        self.findings.push(finding.help(help));
    }
}
