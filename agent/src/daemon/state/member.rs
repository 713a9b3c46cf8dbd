//! An interface that is there, and which programs it shares with others.

use bulkhead_dataplane::{
    Attached, Dataplane, Hook, Interface, KernelError, Kind, LoadedTables, Pins, Specialisation,
};
use bulkhead_engine::memory::Tables;

use crate::config::{LOOPBACK, Managed, Role};

/// What came of attaching to an interface that was not there when the generation was built.
pub enum Arrival {
    /// It shares programs that are loaded.
    Attached(Attached),
    /// None that is loaded is for such an interface: another generation is.
    NeedsGeneration,
}

/// One interface that is enforced on.
pub struct Member {
    /// It, as the kernel has it.
    pub interface: Interface,
    /// It, as agent.toml has it.
    pub managed: Managed,
    /// Why ingress is not at the best hook, if that was tried since the agent started.
    fallback: Option<String>,
}

impl Member {
    /// `attached` is what has been attached since the agent started.
    pub fn new(interface: Interface, managed: Managed, attached: &[Attached]) -> Self {
        let is_it = |known: &&Attached| known.interface == interface.name && known.index == interface.index;
        let fallback = attached.iter().find(is_it).and_then(|known| known.fallback.clone());
        Self { interface, managed, fallback }
    }

    /// Its zone.
    pub fn zone(&self) -> u16 {
        self.managed.zone(self.interface.kind)
    }

    /// What its programs are specialised by.
    pub fn specialisation(&self) -> Specialisation {
        self.managed.specialisation(self.interface.kind)
    }

    /// The ingress hooks to try. A driver that has refused one is not asked at every change, since to
    /// take it may stop a network card for a moment.
    fn ingress(&self) -> &'static [Hook] {
        let hooks = self.managed.ingress(self.interface.kind);
        if self.fallback.is_some() { hooks.split_first().map_or(hooks, |(_, others)| others) } else { hooks }
    }

    /// The hooks that it probably needs programs for; where another one is in use, all that it may.
    fn hooks(&self, in_use: &[(String, Hook)]) -> Vec<Hook> {
        let mut hooks = vec![Hook::TcxEgress];
        let ingress = self.ingress();
        hooks.extend(ingress.first());
        let is_other = |(name, hook): &(String, Hook)| *name == self.interface.name && !hooks.contains(hook);
        if in_use.iter().any(is_other) {
            hooks.push(Hook::TcxIngress);
            hooks.extend(ingress);
        }
        hooks
    }

    /// Puts its group's programs on its hooks; `None` if the generation has no such group.
    ///
    /// # Errors
    /// If a hook refuses.
    pub fn attach<T: LoadedTables>(
        &mut self,
        tables: &mut T,
        pins: &Pins,
        links: &mut T::Links,
    ) -> Result<Option<Attached>, KernelError> {
        let attached = tables.attach(self.specialisation(), &self.interface, self.ingress(), pins, links)?;
        let Some(mut attached) = attached else { return Ok(None) };
        if let Some(why) = &attached.fallback {
            let hook = attached.hooks.first().map_or("", |hook| hook.name());
            tracing::warn!(interface = self.interface.name, hook, "{why}");
            self.fallback = Some(why.clone());
        }
        attached.fallback.clone_from(&self.fallback);
        Ok(Some(attached))
    }

    /// Refuses an interface that its role or its `link` is not for.
    ///
    /// # Errors
    /// What to do.
    pub fn refuse_kind(&self) -> anyhow::Result<()> {
        let Self { interface: Interface { name, kind, .. }, managed, .. } = self;
        anyhow::ensure!(
            (name == LOOPBACK) == (managed.role == Role::Local),
            "interface {name}: lo has role = \"local\" in agent.toml, and nothing else has"
        );
        anyhow::ensure!(
            managed.role == Role::Overlay || *kind == Kind::Ethernet,
            "interface {name}: role = \"{}\" is for Ethernet interfaces; remove it from agent.toml",
            managed.role.name()
        );
        anyhow::ensure!(
            managed.link.is_empty() || *kind == Kind::Ethernet,
            "interface {name}: `link` is for Ethernet interfaces, and this one carries bare IP; remove it from \
             agent.toml"
        );
        Ok(())
    }

    /// Refuses packet rates where they would not hold: generic XDP sees merged packets as one and not
    /// of how many.
    ///
    /// # Errors
    /// What to do.
    pub fn refuse_rates(&self, has_rates: bool) -> anyhow::Result<()> {
        anyhow::ensure!(
            !has_rates || !self.ingress().contains(&Hook::XdpGeneric),
            "interface {}: the policy has packet rates, which cannot hold at hook xdp, where merged packets \
             count as one; use hook = \"tcx\" (the default)",
            self.interface.name
        );
        Ok(())
    }
}

/// Whether rules have packet rates.
pub fn has_packet_rates(tables: &Tables) -> bool {
    tables.limits.iter().any(|limit| limit.packets.interval != 0)
}

/// What interfaces share programs by, with the hooks that these are loaded for in advance.
///
/// # Errors
/// If the pins cannot be read.
pub fn groups<D: Dataplane>(
    plane: &D,
    members: &[Member],
    pins: &Pins,
) -> Result<Vec<(Specialisation, Vec<Hook>)>, KernelError> {
    let mut in_use = plane.pinned_links(pins)?;
    for other in plane.other_layouts(pins)? {
        in_use.extend(plane.pinned_links(&other)?);
    }
    let mut groups: Vec<(Specialisation, Vec<Hook>)> = Vec::new();
    for member in members {
        let (specialisation, hooks) = (member.specialisation(), member.hooks(&in_use));
        match groups.iter_mut().find(|(known, _)| *known == specialisation) {
            Some((_, known)) => known.extend(hooks),
            None => groups.push((specialisation, hooks)),
        }
    }
    for (_, hooks) in &mut groups {
        hooks.sort_unstable();
        hooks.dedup();
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_dataplane::{Attached, Hook, Interface, Kernel, Kind, Pins};

    use super::{Member, groups};
    use crate::config::{HookChoice, Managed};

    fn member(name: &str, kind: Kind, index: u32, attached: &[Attached]) -> Member {
        let interface =
            Interface { name: name.to_owned(), device: name.to_owned(), index, group: 0, mtu: 1500, kind };
        Member::new(interface, Managed::new(name, HookChoice::Auto), attached)
    }

    #[test]
    fn interfaces_share_programs_by_what_specialises_them_and_load_what_they_need() {
        let base = std::env::temp_dir().join(format!("bulkhead-groups-{}", std::process::id()));
        let pins = Pins::new(Path::new(&base), "x");
        let attached = Attached {
            device: "e2".to_owned(),
            group: 0,
            programs: Vec::new(),
            enforcing: Vec::new(),
            tags: Vec::new(),
            contested: false,
            interface: "e2".to_owned(),
            index: 2,
            hooks: vec![Hook::TcxIngress, Hook::TcxEgress],
            fallback: Some("no native XDP: because".to_owned()),
        };
        let known = [attached];
        let mut members: Vec<_> =
            (0..9).map(|index| member(&format!("w{index}"), Kind::BareIp, 20 + index, &known)).collect();
        members.push(member("e1", Kind::Ethernet, 1, &known));
        let of =
            |groups: &[(_, Vec<Hook>)]| groups.iter().map(|(_, hooks)| hooks.clone()).collect::<Vec<_>>();
        let bare = vec![Hook::TcxIngress, Hook::TcxEgress];
        let found = groups(&Kernel, &members, &pins).unwrap();
        assert_eq!(of(&found), [bare.clone(), vec![Hook::TcxEgress, Hook::XdpNative]]);

        // A driver without native XDP is asked once.
        members.pop();
        members.push(member("e2", Kind::Ethernet, 2, &known));
        assert_eq!(of(&groups(&Kernel, &members, &pins).unwrap()), [bare.clone(), bare.clone()]);
        // Another interface of the name is asked again.
        members.push(member("e2", Kind::Ethernet, 3, &known));
        assert_eq!(
            groups(&Kernel, &members, &pins).unwrap()[1].1,
            [Hook::TcxIngress, Hook::TcxEgress, Hook::XdpNative]
        );
        members.pop();

        // Whatever leads from what is in use to what is wanted is loaded before a hook changes.
        members.push(member("e1", Kind::Ethernet, 1, &known));
        pins.create_links("e1").unwrap();
        std::fs::write(pins.link("e1", Hook::XdpGeneric), "").unwrap();
        members.retain(|member| member.interface.name != "e2");
        assert_eq!(
            groups(&Kernel, &members, &pins).unwrap()[1].1,
            [Hook::TcxIngress, Hook::TcxEgress, Hook::XdpNative]
        );

        // Another zone is another specialisation.
        members[0].managed.zone = Some(9);
        assert_eq!(groups(&Kernel, &members, &pins).unwrap().len(), 3);
        std::fs::remove_dir_all(base).unwrap();
    }
}
