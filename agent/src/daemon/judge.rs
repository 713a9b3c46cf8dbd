//! What the kernel's answers come to: the state that `bulkhead status` shows, and why.

use std::collections::BTreeSet;

use bulkhead::kernel::{Fault, RunningLink};
use bulkhead_engine::layout::VERSION;
use serde::{Deserialize, Serialize};

use super::status::Agent;

/// What holds of all managed interfaces and the guard, asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every packet meets the enforced generation first.
    Enforced,
    /// It would, but the generation lets everything pass and reports what it would drop.
    Audit,
    /// Some managed interface or the guard is not as it should be.
    Degraded,
    /// Hooks run different generations.
    Mixed,
    /// Nothing is attached.
    Detached,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Audit => "audit",
            Self::Degraded => "degraded",
            Self::Mixed => "mixed",
            Self::Detached => "detached",
        }
    }
}

/// What is wrong with the links.
pub fn judge(links: &[RunningLink], agent: Option<&Agent>, half_way: bool) -> (State, Vec<String>) {
    if links.is_empty() && agent.is_none() {
        return (State::Detached, Vec::new());
    }
    let mut problems = Vec::new();
    let alive = || links.iter().filter(|link| link.index != 0);
    let generations: BTreeSet<_> = alive().map(|link| link.generation).collect();
    let mixed = generations.len() > 1;
    if mixed {
        let each: Vec<_> = alive()
            .map(|link| {
                let generation = link.generation.map_or("unknown".to_owned(), |number| number.to_string());
                format!("{} {} runs {generation}", link.interface, link.hook.name())
            })
            .collect();
        problems.push(format!("hooks run different generations: {}", each.join(", ")));
    } else if half_way {
        problems.push("a change stopped half-way; the next start of the agent completes it".to_owned());
    }
    let faults = faults(links, agent);
    let is_degraded = !faults.is_empty();
    problems.extend(faults);
    let layouts: BTreeSet<u32> =
        links.iter().map(|link| link.layout).filter(|layout| *layout != VERSION).collect();
    for layout in layouts {
        problems.push(format!("an agent of layout {layout} attached the programs; its flows and counters are not shown until `bulkhead run` takes them over"));
    }
    let state = match (mixed || half_way, is_degraded) {
        (true, _) => State::Mixed,
        (false, true) => State::Degraded,
        (false, false) => State::Enforced,
    };
    (state, problems)
}

/// Why managed interfaces are not enforced, in the kernel's words.
fn faults(links: &[RunningLink], agent: Option<&Agent>) -> Vec<String> {
    let mut problems = Vec::new();
    let managed = agent.iter().flat_map(|agent| &agent.interfaces).map(|known| known.interface.as_str());
    let managed: BTreeSet<&str> = managed.chain(links.iter().map(|link| link.interface.as_str())).collect();
    for interface in managed {
        let links: Vec<_> = links.iter().filter(|link| link.interface == interface).collect();
        if links.iter().any(|link| link.fault == Some(Fault::NoDevice)) {
            problems.push(gone(interface));
            continue;
        }
        for link in &links {
            if let Some(fault) = &link.fault {
                problems.push(format!("interface {interface}: {}: {fault}; nothing judges what it carries until an agent attaches to it again", link.hook.name()));
            }
        }
        let known =
            agent.and_then(|agent| agent.interfaces.iter().find(|known| known.interface == interface));
        match known {
            Some(known) if known.index == 0 && links.is_empty() => problems.push(gone(interface)),
            Some(known) => {
                let unpinned = known.hooks.iter().filter(|hook| links.iter().all(|link| link.hook != **hook));
                problems.extend(
                    unpinned
                        .map(|hook| format!("interface {interface}: {}: {}", hook.name(), Fault::Unpinned)),
                );
            }
            None => {}
        }
    }
    problems
}

fn gone(interface: &str) -> String {
    format!(
        "interface {interface} is not there; whatever comes under that name is not enforced until the agent attaches to it"
    )
}

#[cfg(test)]
mod tests {
    use bulkhead::kernel::{Fault, Hook, RunningLink};

    use super::{State, judge};
    use bulkhead_engine::layout::VERSION;

    #[test]
    fn a_status_names_what_is_wrong() {
        let link = |interface: &str, index, generation, fault| RunningLink {
            interface: interface.to_owned(),
            hook: Hook::TcxEgress,
            index,
            generation,
            layout: VERSION,
            fault,
        };
        assert_eq!(judge(&[], None, false).0, State::Detached);
        let whole = [link("a", 1, Some(3), None), link("b", 2, Some(3), None)];
        assert_eq!(judge(&whole, None, false), (State::Enforced, Vec::new()));
        assert_eq!(judge(&whole, None, true).0, State::Mixed);
        let two = [link("a", 1, Some(3), None), link("b", 2, Some(4), None)];
        let (state, problems) = judge(&two, None, false);
        assert!(state == State::Mixed && problems[0].contains("a tcx-egress runs 3, b tcx-egress runs 4"));
        for (fault, index, words) in [
            (Fault::NoDevice, 0, "interface b is not there"),
            (Fault::Detached, 0, "b: tcx-egress: the program is not attached"),
            (Fault::Elsewhere { index: 9 }, 9, "attached to another interface (index 9)"),
            (Fault::NotFirst { before: vec![7] }, 2, "other programs run before ours (number 7)"),
        ] {
            let (state, problems) =
                judge(&[link("a", 1, Some(3), None), link("b", index, Some(3), Some(fault))], None, false);
            assert!(state == State::Degraded && problems[0].contains(words), "{problems:?}");
        }
        let foreign = RunningLink { layout: VERSION + 1, ..link("a", 1, Some(3), None) };
        let (state, problems) = judge(&[foreign], None, false);
        assert!(state == State::Enforced && problems[0].contains("takes them over"), "{problems:?}");
    }
}
