//! What the kernel's answers come to: the state that `bulkhead status` shows, and why.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use bulkhead_abi::VERSION;
use bulkhead_api::status::State;
use bulkhead_dataplane::{Attached, Dataplane, Device, DeviceTable as _, Fault, Hook, RunningLink, name_of};

use crate::daemon::state::in_place::{GuardNote, InPlace};

/// What there is to be, and what else the kernel says.
#[derive(Default)]
pub struct Known {
    /// What an agent has put in place.
    pub in_place: Option<InPlace>,
    /// The devices of its interfaces, by the name that is managed.
    pub devices: BTreeMap<String, Device>,
    /// Generations that the ledger names: one of them may be on the hooks before that is noted.
    pub recorded: Vec<u32>,
    /// A process holds the links, so that they outlive their pins.
    pub is_held: bool,
}

impl Known {
    /// Whether a link runs one of our programs.
    fn is_ours(&self, link: &RunningLink) -> bool {
        match &self.in_place {
            Some(in_place) => {
                // One that the agent could not attach to may have links that are left of before.
                let mut noted = in_place.interfaces.iter().filter(|noted| noted.interface == link.interface);
                let is_bare = noted.any(|noted| noted.hooks.is_empty());
                let is_known = |number: u32| {
                    if number == in_place.generation { is_bare } else { self.recorded.contains(&number) }
                };
                is_noted(in_place, link) || link.generation.is_some_and(is_known)
            }
            // What another map ABI's tables are called may not be known.
            None => link.generation.is_some() || link.layout != VERSION,
        }
    }

    /// The generation that a link runs, also if the pins of its tables are gone.
    pub fn generation(&self, link: &RunningLink) -> Option<u32> {
        let noted = self.in_place.as_ref().filter(|in_place| is_noted(in_place, link));
        link.generation.or(noted.map(|in_place| in_place.generation))
    }

    /// Why an interface is not enforced, and at which hook.
    pub fn faults(&self, interface: &str, links: &[RunningLink]) -> Vec<(Option<Hook>, Fault)> {
        let links: Vec<_> = links.iter().filter(|link| link.interface == interface).collect();
        let noted = self.in_place.iter().flat_map(|in_place| &in_place.interfaces);
        let noted = noted.clone().find(|noted| noted.interface == interface);
        let is_gone = noted.is_some() && !self.devices.contains_key(interface);
        if is_gone || links.iter().any(|link| link.fault == Some(Fault::NoDevice)) {
            return vec![(None, Fault::NoDevice)];
        }
        let mut faults = Vec::new();
        for link in &links {
            let foreign = (!self.is_ours(link)).then_some(Fault::OtherProgram { program: link.program });
            faults.extend(link.fault.clone().or(foreign).map(|fault| (Some(link.hook), fault)));
        }
        let Some(noted) = noted else { return faults };
        if noted.hooks.is_empty() && links.is_empty() {
            faults.push((None, Fault::Detached));
        }
        let unpinned = noted.hooks.iter().filter(|hook| links.iter().all(|link| link.hook != **hook));
        let fault = if self.is_held { Fault::Unpinned } else { Fault::Detached };
        faults.extend(unpinned.map(|hook| (Some(*hook), fault.clone())));
        faults
    }

    /// Every interface that is to be enforced, or has a pin.
    fn interfaces<'a>(&'a self, links: &'a [RunningLink]) -> BTreeSet<&'a str> {
        let noted = self.in_place.iter().flat_map(|in_place| &in_place.interfaces);
        let noted = noted.map(|noted| noted.interface.as_str());
        noted.chain(links.iter().map(|link| link.interface.as_str())).collect()
    }

    /// Interfaces whose packets the guard drops because they go on by another one.
    fn enslaved(&self) -> Vec<String> {
        let Some(in_place) = self.in_place.as_ref().filter(|known| known.guard != GuardNote::Off) else {
            return Vec::new();
        };
        // In a VRF, packets are judged on the interfaces below it.
        let ports = self.devices.iter().filter_map(|(interface, device)| {
            let port = device.port.as_ref().filter(|port| port.kind != "vrf")?;
            (!in_place.exchange.contains(interface)).then_some((interface, port))
        });
        let words = ports.map(|(interface, port)| {
            let of = name_of(port.of).unwrap_or_else(|| format!("number {}", port.of));
            let kind = if port.kind.is_empty() { "interface" } else { &port.kind };
            format!(
                "interface {interface} is a port of {kind} {of}: what is to and from this host goes by {of}, where the \
                 guard drops it; take it out (`ip link set {interface} nomaster`)"
            )
        });
        words.collect()
    }
}

/// Whether a link runs the program that was put there.
fn is_noted(in_place: &InPlace, link: &RunningLink) -> bool {
    let hooks = in_place.interfaces.iter().filter(|noted| noted.interface == link.interface);
    let mut hooks = hooks.flat_map(|noted| noted.hooks.iter().zip(&noted.programs));
    hooks.any(|(hook, program)| (*hook, *program) == (link.hook, link.program))
}

/// What is wrong with the links.
pub fn judge(links: &[RunningLink], known: &Known, half_way: bool) -> (State, Vec<String>) {
    if links.is_empty() && known.in_place.is_none() {
        return (State::Detached, Vec::new());
    }
    let mut problems = Vec::new();
    let alive = || links.iter().filter(|link| link.index != 0);
    let generations: BTreeSet<_> = alive().filter_map(|link| known.generation(link)).collect();
    let mixed = generations.len() > 1;
    if mixed {
        let each: Vec<_> = alive()
            .map(|link| {
                let generation =
                    known.generation(link).map_or("unknown".to_owned(), |number| number.to_string());
                format!("{} {} runs {generation}", link.interface, link.hook.name())
            })
            .collect();
        problems.push(format!("hooks run different generations: {}", each.join(", ")));
    } else if half_way {
        problems.push("a change stopped half-way; the next start of the agent completes it".to_owned());
    }
    let mut faults = faults(links, known);
    faults.extend(known.enslaved());
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
fn faults(links: &[RunningLink], known: &Known) -> Vec<String> {
    let words = |interface: &str, hook: Option<Hook>, fault: &Fault| {
        let place = hook.map_or(String::new(), |hook| format!("{}: ", hook.name()));
        let open = if fault.is_open() {
            "; nothing judges what it carries until an agent attaches to it again"
        } else {
            ""
        };
        format!("interface {interface}: {place}{fault}{open}")
    };
    let mut problems = Vec::new();
    for interface in known.interfaces(links) {
        problems.extend(known.faults(interface, links).iter().map(|(hook, fault)| match fault {
            Fault::NoDevice => gone(interface),
            fault => words(interface, *hook, fault),
        }));
    }
    problems
}

fn gone(interface: &str) -> String {
    format!(
        "interface {interface} is not there; whatever comes under that name is not enforced until the agent attaches to it"
    )
}

/// The devices of interfaces that are to be enforced.
pub fn devices(
    plane: &impl Dataplane,
    in_place: Option<&InPlace>,
) -> anyhow::Result<BTreeMap<String, Device>> {
    let what = "asking for interfaces";
    let asked = plane.devices().context(what)?;
    let mut found = BTreeMap::new();
    for Attached { interface, .. } in in_place.iter().flat_map(|in_place| &in_place.interfaces) {
        found.extend(asked.by_name(interface).context(what)?.map(|device| (interface.clone(), device)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use bulkhead_dataplane::{Attached, Device, Fault, Hook, Port, RunningLink};

    use super::{GuardNote, InPlace, Known, State, judge};
    use bulkhead_abi::VERSION;

    fn link(interface: &str, index: u32, generation: Option<u32>, fault: Option<Fault>) -> RunningLink {
        RunningLink {
            interface: interface.to_owned(),
            hook: Hook::TcxEgress,
            index,
            program: 70 + index,
            generation,
            layout: VERSION,
            fault,
        }
    }

    #[test]
    fn a_status_names_what_is_wrong() {
        let known = Known::default();
        assert_eq!(judge(&[], &known, false).0, State::Detached);
        let whole = [link("a", 1, Some(3), None), link("b", 2, Some(3), None)];
        assert_eq!(judge(&whole, &known, false), (State::Enforced, Vec::new()));
        assert_eq!(judge(&whole, &known, true).0, State::Mixed);
        let two = [link("a", 1, Some(3), None), link("b", 2, Some(4), None)];
        let (state, problems) = judge(&two, &known, false);
        assert!(state == State::Mixed && problems[0].contains("a tcx-egress runs 3, b tcx-egress runs 4"));
        for (fault, index, words) in [
            (Fault::NoDevice, 0, "interface b is not there"),
            (Fault::Detached, 0, "b: tcx-egress: the program is not attached"),
            (Fault::Elsewhere { index: 9 }, 9, "attached to another interface (index 9)"),
            (Fault::NotFirst { before: vec![7] }, 2, "other programs run before ours (number 7)"),
        ] {
            let (state, problems) =
                judge(&[link("a", 1, Some(3), None), link("b", index, Some(3), Some(fault))], &known, false);
            assert!(state == State::Degraded && problems[0].contains(words), "{problems:?}");
        }
        let foreign = RunningLink { layout: VERSION + 1, ..link("a", 1, Some(3), None) };
        let (state, problems) = judge(&[foreign], &known, false);
        assert!(state == State::Enforced && problems[0].contains("takes them over"), "{problems:?}");
        let (state, problems) = judge(&[link("a", 1, None, None)], &known, false);
        assert!(state == State::Degraded && problems[0].contains("number 71"), "{problems:?}");
    }

    /// Interfaces `a` (index 1, program 71) and `b` (2, 72) at egress, of generation 3.
    fn noted() -> Known {
        let on = |name: &str, index: u32| Attached {
            index,
            hooks: vec![Hook::TcxEgress],
            programs: vec![70 + index],
            ..Attached::absent(name)
        };
        let device = |index, port| Device {
            name: String::new(),
            index,
            link_type: 1,
            group: 0,
            mtu: 1500,
            xdp: None,
            port,
        };
        Known {
            in_place: Some(InPlace::new(3, &[on("a", 1), on("b", 2)], Vec::new(), GuardNote::Changing)),
            devices: [("a", 1), ("b", 2)].map(|(name, index)| (name.to_owned(), device(index, None))).into(),
            ..Known::default()
        }
    }

    #[test]
    fn what_was_put_in_place_is_missed() {
        let (a, b) = (link("a", 1, Some(3), None), link("b", 2, Some(3), None));
        let degraded = |links: &[RunningLink], known: &Known, words: &str| {
            let (state, problems) = judge(links, known, false);
            assert!(
                state == State::Degraded && problems.iter().any(|told| told.contains(words)),
                "{problems:?}"
            );
        };
        assert_eq!(judge(&[a.clone(), b.clone()], &noted(), false), (State::Enforced, Vec::new()));
        // The tables' pins alone are gone.
        let bare = RunningLink { generation: None, ..b.clone() };
        assert_eq!(judge(&[a.clone(), bare], &noted(), false).0, State::Enforced);
        degraded(&[], &noted(), "interface a: tcx-egress: the program is not attached");
        degraded(from_ref(&a), &noted(), "interface b: tcx-egress: the program is not attached");
        let held = Known { is_held: true, ..noted() };
        degraded(from_ref(&a), &held, "interface b: tcx-egress: the link is not pinned");
        for generation in [None, Some(3), Some(4)] {
            let foreign = |link: &RunningLink| RunningLink { program: 9, generation, ..link.clone() };
            degraded(&[foreign(&a), foreign(&b)], &noted(), "(number 9) that is not the generation's");
        }
        // The next generation got there, and the agent was killed before it could note that.
        let next = |link: &RunningLink| RunningLink { program: 9, generation: Some(4), ..link.clone() };
        let recorded = Known { recorded: vec![4], ..noted() };
        assert_eq!(judge(&[next(&a), next(&b)], &recorded, false).0, State::Enforced);
        let mut gone = noted();
        gone.devices.remove("b");
        degraded(from_ref(&a), &gone, "interface b is not there");
        let mut came = noted();
        came.in_place.as_mut().unwrap().interfaces[1] = Attached::absent("b");
        degraded(from_ref(&a), &came, "interface b: the program is not attached");
        // What is wrong with one hook is told; that of another is left as it was.
        let before = Fault::NotFirst { before: vec![7] };
        let left = [a, b, RunningLink { hook: Hook::TcxIngress, ..link("b", 2, Some(3), Some(before)) }];
        let (_, problems) = judge(&left, &came, false);
        assert!(
            problems.len() == 1 && problems[0].contains("other programs run before ours"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_port_of_a_bridge_carries_nothing() {
        let links = [link("a", 1, Some(3), None), link("b", 2, Some(3), None)];
        let in_a = |kind: &str| {
            let mut known = noted();
            let port = Some(Port { of: u32::MAX, kind: kind.to_owned() });
            known.devices.get_mut("b").unwrap().port = port;
            known
        };
        let (state, problems) = judge(&links, &in_a("bridge"), false);
        assert!(
            state == State::Degraded && problems[0].contains("interface b is a port of bridge"),
            "{problems:?}"
        );
        assert_eq!(judge(&links, &in_a("vrf"), false).0, State::Enforced);
        let mut unguarded = in_a("bond");
        unguarded.in_place.as_mut().unwrap().guard = GuardNote::Off;
        assert_eq!(judge(&links, &unguarded, false).0, State::Enforced);
        let mut exchange = in_a("bond");
        exchange.in_place.as_mut().unwrap().exchange.push("b".to_owned());
        assert_eq!(judge(&links, &exchange, false).0, State::Enforced);
    }
}
