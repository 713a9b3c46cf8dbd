//! The tests section.

use super::resolver::Resolver;
use super::sets::Place;
use super::{Test, TestTarget};
use crate::diagnostic::Location;
use crate::policy::{self, Action};

impl Resolver<'_> {
    /// One entry; `assumed` is the index of the rules that it is about, if not the policy's own.
    pub(super) fn test(&mut self, test: &policy::Test, assumed: Option<usize>) -> Option<Test> {
        let source = self.used(&test.source, Place::source(Action::Accept), None);
        let mut targets = Vec::new();
        for (admitted, list) in [(true, &test.accept), (false, &test.deny)] {
            for target in list {
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
}
