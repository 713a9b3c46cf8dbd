//! Nodes that are denied again and again, where the overlay has proven that it is they.

use std::collections::HashSet;

use bulkhead_api::event::{Direction, Drop};

use super::table::Table;
use crate::config::Response;

/// Nodes that are told apart.
const NODES: usize = 1024;

/// Counts denials by node.
pub struct Denials {
    settings: Response,
    /// The interfaces among those of the settings that carry no Ethernet, where a source is anybody's word.
    proven: HashSet<String>,
    nodes: Table<String, Counted>,
}

struct Counted {
    began: u64,
    count: u64,
}

/// A node that is to be quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The node.
    pub node: String,
    /// How often it was denied.
    pub count: u64,
}

impl Denials {
    /// With these bounds.
    pub fn new(settings: Response) -> Self {
        Self { settings, proven: HashSet::new(), nodes: Table::new(NODES) }
    }

    /// The interfaces that sources are proven on.
    pub fn prove(&mut self, interfaces: HashSet<String>) {
        self.proven = interfaces;
    }

    /// Takes a denial at a time (s); who is to be quarantined for it.
    pub fn note(&mut self, drop: &Drop, now: u64) -> Option<Denied> {
        let is_proven = drop.interface.as_ref().is_some_and(|name| self.proven.contains(name));
        let is_denied = drop.direction == Direction::Ingress && !drop.audit;
        // An address behind a node is not the node.
        let end = drop.source.as_ref().filter(|end| is_proven && is_denied && end.route.is_none())?;
        let node = end.name.as_ref()?;
        let counted = self.nodes.entry(node, |counted| counted.count, || Counted { began: now, count: 0 });
        if now.saturating_sub(counted.began) >= self.settings.seconds {
            *counted = Counted { began: now, count: 0 };
        }
        counted.count = counted.count.saturating_add(drop.count);
        if counted.count < self.settings.denials {
            return None;
        }
        let count = std::mem::take(&mut counted.count);
        Some(Denied { node: node.clone(), count })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::drop;
    use super::{Denials, Direction, Drop, Response};

    #[test]
    fn only_who_is_proven_counts() {
        let settings = Response {
            interfaces: vec!["wg0".to_owned(), "eth0".to_owned()],
            denials: 10,
            seconds: 60,
            hold: 60,
            at_once: 1,
        };
        let mut denials = Denials::new(settings);
        let mut denied = drop("10.0.0.1", 22, 9);
        denied.interface = Some("wg0".to_owned());
        let is_due = |denials: &mut Denials, drop: &_| {
            denials.note(drop, 5).is_some() || denials.note(drop, 6).is_some()
        };
        assert!(!is_due(&mut denials, &denied), "nothing is proven yet");
        denials.prove(HashSet::from(["wg0".to_owned()]));
        assert!(!is_due(&mut denials, &denied), "nobody's address");
        denied.source.as_mut().unwrap().name = Some("client".to_owned());
        let changes: [fn(&mut Drop); 4] = [
            |drop| drop.interface = Some("eth0".to_owned()),
            |drop| drop.direction = Direction::Egress,
            |drop| drop.audit = true,
            |drop| drop.source.as_mut().unwrap().route = Some("10.0.0.0/8".parse().unwrap()),
        ];
        for change in changes {
            let mut other = denied.clone();
            change(&mut other);
            assert!(!is_due(&mut denials, &other), "{other:?}");
        }
        assert!(denials.note(&denied, 5).is_none() && denials.note(&denied, 65).is_none(), "too slow");
        assert_eq!(denials.note(&denied, 66).unwrap().count, 18);
    }
}
