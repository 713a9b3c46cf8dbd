//! The tests section.

use super::resolver::Resolver;
use super::sets::{Place, Unresolved};
use super::{Test, TestTarget};
use crate::Dialect;
use crate::frontend::diagnostic::Location;
use crate::frontend::policy::{self, Action, Selector};
use crate::frontend::source::Spanned;

impl Resolver<'_> {
    /// One entry; `assumed` is the index of the rules that it is about, if not the policy's own.
    pub(super) fn test(&mut self, test: &policy::Test, assumed: Option<usize>) -> Option<Test> {
        let known = self.findings.0.len();
        let resolved = self.test_entry(test, assumed);
        if self.sets.dialect == Dialect::Tailscale {
            self.findings.prefix_errors(known, policy::FAILED);
        }
        resolved
    }

    fn test_entry(&mut self, test: &policy::Test, assumed: Option<usize>) -> Option<Test> {
        if self.cannot_be_tested(&test.source) {
            return None;
        }
        let source = self.used(&test.source, Place::source(Action::Accept), None);
        let mut targets = Vec::new();
        for (admitted, list) in [(true, &test.accept), (false, &test.deny)] {
            for target in list {
                if self.cannot_be_tested(&target.selector) {
                    continue;
                }
                if self.is_range(&target.selector.value) {
                    let message = format!("\"{}\": {}", target.selector.value, policy::ONE_HOST);
                    self.complain(target.selector.span, Unresolved { message, help: None });
                    continue;
                }
                if let Some(destination) =
                    self.used(&target.selector, Place::destination(Action::Accept), None)
                {
                    let location = Location::new(&self.policy.source, target.selector.span);
                    targets.push(TestTarget { destination, port: target.port, admitted, location });
                }
            }
        }
        let location = Location::new(&self.policy.source, test.span);
        Some(Test { location, source: source?, assumed, protocol: test.protocol, targets })
    }

    /// Whether nobody here knows who is meant, which is told then.
    fn cannot_be_tested(&mut self, selector: &Spanned<Selector>) -> bool {
        let cannot = self.sets.is_foreign(&selector.value) || self.is_absent(&selector.value);
        if cannot {
            self.not_run(selector);
        }
        cannot
    }

    /// Tells of a test that is not run, because somebody in it is not known.
    pub(super) fn not_run(&mut self, selector: &Spanned<Selector>) {
        let message = match selector.value {
            Selector::User(_) => format!("tests of {} are not run: it has no device", selector.value),
            _ => format!("tests of {} are not run: only Tailscale knows who that is", selector.value),
        };
        self.note_once(selector.span, message);
    }

    /// Whether Tailscale refuses it as a test's destination: a host's name that stands for many.
    fn is_range(&self, selector: &Selector) -> bool {
        let Selector::Host(name) = selector else { return false };
        let mut hosts = self.policy.hosts.iter();
        let range = hosts.any(|(host, net)| host.value == *name && net.prefix_len() < net.max_prefix_len());
        range && self.sets.dialect == Dialect::Tailscale
    }
}
