//! Links of the fake kernel, as a process holds them.

use std::collections::BTreeMap;
use std::io;

use bulkhead_api::hook::{Attached, Fault, Hook};

use super::super::plane::HookLinks;
use super::super::{Device, Interface, KernelError, Pins};
use super::handle::Fake;
use super::machine::Link;

/// Links that a process holds open.
#[derive(Debug)]
pub struct FakeLinks {
    fake: Fake,
    held: BTreeMap<(String, Hook), u32>,
}

impl FakeLinks {
    pub(super) fn open(fake: &Fake, pins: &Pins) -> Self {
        let mut machine = fake.machine();
        let held = machine.find(pins).map(|layout| layout.links.clone()).unwrap_or_default();
        for link in held.values() {
            machine.links.entry(*link).and_modify(|link| link.holders += 1);
        }
        Self { fake: fake.clone(), held }
    }

    fn release(&mut self, key: &(String, Hook)) {
        let Some(id) = self.held.remove(key) else { return };
        let mut machine = self.fake.machine();
        machine.links.entry(id).and_modify(|link| link.holders -= 1);
        machine.collect();
    }

    fn pinned(&self, key: &(String, Hook), pins: &Pins) -> Option<u32> {
        self.fake.machine().find(pins)?.links.get(key).copied()
    }

    /// Puts a program on a hook of a device: into the link that is there, or into a new one.
    pub(super) fn put(
        &mut self,
        interface: &Interface,
        hook: Hook,
        program: u32,
        pins: &Pins,
    ) -> Result<(), KernelError> {
        let key = (interface.name.clone(), hook);
        let what = || KernelError::refused(format!("interface {}: {}", interface.name, hook.name()));
        let known = self.held.get(&key).copied().or_else(|| self.pinned(&key, pins));
        let known = known.filter(|link| {
            let machine = self.fake.machine();
            machine.fault(*link, machine.devices.get(&interface.index)).is_none()
        });
        let put = match known {
            Some(id) => self.fake.step("update a link").map(|()| {
                let mut machine = self.fake.machine();
                machine.links.entry(id).and_modify(|link| {
                    link.program = program;
                    link.holders += 1;
                });
                machine.note("update a link");
                id
            }),
            None => self.create(interface, hook, program),
        };
        // As in the kernel's links: one that refuses is let go of, and only its pin is left.
        self.release(&key);
        let id = put.map_err(what())?;
        self.held.insert(key.clone(), id);
        if self.pinned(&key, pins) != Some(id) {
            self.fake.step("pin a link").map_err(what())?;
            self.fake.machine().pin(pins, key, id);
        }
        Ok(())
    }

    fn create(&self, interface: &Interface, hook: Hook, program: u32) -> io::Result<u32> {
        self.fake.step("create a link")?;
        let mut machine = self.fake.machine();
        let Interface { index, .. } = *interface;
        if !machine.devices.contains_key(&index) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        if hook == Hook::XdpNative && machine.without_xdp.contains(&index) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let id = machine.next_id();
        machine.links.insert(id, Link { index, hook, program, pins: 0, holders: 1 });
        machine.note("create a link");
        Ok(id)
    }

    /// Detaches a link and removes its pin.
    pub(super) fn remove(&mut self, interface: &str, hook: Hook, pins: &Pins) -> Result<(), KernelError> {
        let key = (interface.to_owned(), hook);
        let what = || KernelError::refused(format!("interface {interface}: detaching {}", hook.name()));
        self.fake.step("detach a link").map_err(what())?;
        if let Some(id) = self.held.get(&key).copied().or_else(|| self.pinned(&key, pins)) {
            self.fake.machine().links.entry(id).and_modify(|link| link.index = 0);
        }
        self.release(&key);
        self.fake.machine().note("detach a link");
        self.fake.step("remove a link's pin").map_err(what())?;
        self.fake.machine().unpin(pins.root(), &key);
        Ok(())
    }

    /// Detaches what is on a device under the names of other interfaces, which it had before.
    pub(super) fn evict(&mut self, interface: &str, index: u32, pins: &Pins) -> Result<(), KernelError> {
        let machine = self.fake.machine();
        let is_there = |id: &u32| machine.links.get(id).is_some_and(|link| link.index == index);
        let is_former = |((name, _), id): &(&(String, Hook), &u32)| name != interface && is_there(id);
        let former: Vec<_> = self.held.iter().filter(is_former).map(|(key, _)| key.clone()).collect();
        drop(machine);
        former.into_iter().try_for_each(|(name, hook)| self.remove(&name, hook, pins))
    }

    fn fault_of(&self, interface: &str, hook: Hook, device: Option<&Device>, program: u32) -> Option<Fault> {
        let Some(id) = self.held.get(&(interface.to_owned(), hook)) else { return Some(Fault::Detached) };
        let machine = self.fake.machine();
        machine.fault(*id, device).or_else(|| {
            let runs = machine.links.get(id)?.program;
            (runs != program).then_some(Fault::OtherProgram { program: runs })
        })
    }
}

impl HookLinks for FakeLinks {
    fn fault(
        &self,
        interface: &str,
        hook: Hook,
        device: &Device,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        self.fake.step("ask a link").map_err(KernelError::refused("asking a link"))?;
        Ok(self.fault_of(interface, hook, Some(device), program))
    }

    fn fault_without_news(
        &self,
        interface: &str,
        hook: Hook,
        index: u32,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        let device = self.fake.machine().devices.get(&index).cloned();
        Ok(self.fault_of(interface, hook, device.as_ref(), program))
    }

    fn is_pinned(&self, interface: &str, hook: Hook, pins: &Pins) -> Result<bool, KernelError> {
        let key = (interface.to_owned(), hook);
        Ok(self.held.get(&key).is_some_and(|id| self.pinned(&key, pins) == Some(*id)))
    }

    fn undo(&mut self, pins: &Pins, before: &[(String, Hook)]) {
        let now: Vec<_> =
            self.fake.machine().find(pins).map(|l| l.links.keys().cloned().collect()).unwrap_or_default();
        for link @ (interface, hook) in &now {
            let mut replaced =
                before.iter().filter(|(name, old)| name == interface && old.is_like(*hook)).peekable();
            let is_needed = replaced.peek().is_some() && replaced.all(|old| !now.contains(old));
            if !before.contains(link) && !is_needed {
                let _ = self.remove(interface, *hook, pins);
            }
        }
    }

    fn detach_former(&mut self, attached: &[Attached], pins: &Pins) -> Result<(), KernelError> {
        let pinned: Vec<_> =
            self.fake.machine().find(pins).map(|l| l.links.keys().cloned().collect()).unwrap_or_default();
        for (name, hook) in pinned {
            let now = attached.iter().find(|now| now.interface == name);
            if now.is_some_and(|now| !now.hooks.contains(&hook)) {
                self.remove(&name, hook, pins)?;
            }
        }
        Ok(())
    }

    fn detach_others(&mut self, pins: &Pins, managed: &[&str]) -> Result<Vec<(String, Hook)>, KernelError> {
        let pinned: Vec<_> =
            self.fake.machine().find(pins).map(|l| l.links.keys().cloned().collect()).unwrap_or_default();
        let others: Vec<_> =
            pinned.into_iter().filter(|(name, _)| !managed.contains(&name.as_str())).collect();
        for key in &others {
            self.fake.step("remove a link's pin").map_err(KernelError::refused("removing a link"))?;
            self.fake.machine().unpin(pins.root(), key);
            self.release(key);
        }
        Ok(others)
    }

    fn clear(&mut self) {
        let keys: Vec<_> = self.held.keys().cloned().collect();
        keys.iter().for_each(|key| self.release(key));
        self.fake.machine().note("let go of links");
    }
}

impl Drop for FakeLinks {
    fn drop(&mut self) {
        self.clear();
    }
}
