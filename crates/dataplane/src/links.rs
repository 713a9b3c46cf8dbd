//! The links of an instance: held open, found again under whatever name their device has now, and let go.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use super::device::{Device, Devices};
use super::hook::{fault, fault_of, fault_without_news, is_pinned};
use super::link::{Link, LinkInfo};
use super::{Attached, Fault, Hook, Interface, KernelError, Pins};

/// What there is for a hook of a device.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The link that is on it, and what is wrong with that.
    pub(super) link: Option<(Link, Option<Fault>)>,
    /// What its interface's name stood for, and the name under which the link was: they change places.
    pub(super) former: Option<(Link, String)>,
}

/// The links of an instance, held open: while they are, removing their pins detaches nothing.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<(String, Hook), Link>);

impl Links {
    /// Opens all that are pinned.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        let mut links = BTreeMap::new();
        for (interface, hook) in pins.links()? {
            let pin = pins.link(&interface, hook);
            let link =
                Link::pinned(&pin).map_err(KernelError::refused(format!("{}: opening", pin.display())))?;
            links.extend(link.map(|link| ((interface, hook), link)));
        }
        Ok(Self(links))
    }

    /// Takes the link for a hook of an interface's device out, under whatever name it is.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(super) fn take(
        &mut self,
        interface: &Interface,
        hook: Hook,
        pins: &Pins,
    ) -> Result<Standing, KernelError> {
        let failed = || KernelError::refused(format!("interface {}: {}", interface.name, hook.name()));
        let pin = pins.link(&interface.name, hook);
        let known = match self.0.remove(&(interface.name.clone(), hook)) {
            Some(link) => Some(link),
            None => {
                Link::pinned(&pin).map_err(KernelError::refused(format!("{}: opening", pin.display())))?
            }
        };
        let device = Devices::open().and_then(|devices| devices.by_index(interface.index));
        let device = device.map_err(failed())?;
        let with_fault = |link: Link| {
            let fault = fault(&link, hook, device.as_ref()).map_err(failed())?;
            Ok((link, fault))
        };
        let known = known.map(with_fault).transpose()?;
        if matches!(known, Some((_, None | Some(Fault::NotFirst { .. })))) {
            return Ok(Standing { link: known, former: None });
        }
        // Its interface was renamed, moved, or went and came back under its name. Where two have swapped their
        // names, each device has the other's link.
        let other = device.as_ref().and_then(|device| self.under_another_name(&interface.name, hook, device));
        let found = other.and_then(|other| Some((self.0.remove(&(other.clone(), hook))?, other)));
        let Some((link, other)) = found else { return Ok(Standing::default()) };
        Ok(Standing { link: Some(with_fault(link)?), former: known.map(|(former, _)| (former, other)) })
    }

    /// Keeps a link for a hook of an interface and pins it; what its name stood for until now goes on under
    /// the other name.
    ///
    /// # Errors
    /// If it cannot be pinned; it is held all the same.
    pub(super) fn keep(
        &mut self,
        interface: &str,
        hook: Hook,
        link: Link,
        former: Option<(Link, String)>,
        pins: &Pins,
    ) -> Result<(), KernelError> {
        let pin = pins.link(interface, hook);
        let mut pinned = keep_pinned(&link, &pin);
        self.0.insert((interface.to_owned(), hook), link);
        if let Some((link, other)) = former {
            pinned = pinned.and(keep_pinned(&link, &pins.link(&other, hook)));
            self.0.insert((other, hook), link);
        }
        pinned.map_err(KernelError::refused(format!("{}: pinning", pin.display())))
    }

    /// The interface under whose name a link is on this hook of this device, if that is another one than
    /// `interface`: the device got the name since.
    fn under_another_name(&self, interface: &str, hook: Hook, device: &Device) -> Option<String> {
        let others = self.0.iter().filter(|((name, on), _)| name != interface && *on == hook);
        let mut there = others.filter(|(_, link)| {
            matches!(fault(link, hook, Some(device)), Ok(None | Some(Fault::NotFirst { .. })))
        });
        there.next().map(|((name, _), _)| name.clone())
    }

    /// Detaches what is on a device under the names of other interfaces, which it had before.
    pub(super) fn evict(&mut self, interface: &str, index: u32, pins: &Pins) -> Result<(), KernelError> {
        let mut own = Vec::new();
        let mut former = Vec::new();
        for ((name, hook), link) in &self.0 {
            let info = link.info().map_err(KernelError::refused(format!("interface {name}: its link")))?;
            match info.index == index {
                true if name == interface => own.push(info.id),
                true => former.push((name.clone(), *hook, info.id)),
                false => {}
            }
        }
        if former.is_empty() {
            return Ok(());
        }
        let device = Devices::open().and_then(|devices| devices.by_index(index));
        let device = device.map_err(KernelError::refused(format!("interface {interface}: asking for it")))?;
        for (name, hook, id) in former {
            if own.contains(&id) {
                // Its own link, by a pin that was not moved yet.
                self.0.remove(&(name.clone(), hook));
                unpin(&pins.link(&name, hook))?;
                continue;
            }
            // Another namespace's device may have the same index.
            let link = &self.0[&(name.clone(), hook)];
            if matches!(fault(link, hook, device.as_ref()), Ok(None | Some(Fault::NotFirst { .. }))) {
                self.remove(&name, hook, pins)?;
            }
        }
        Ok(())
    }

    /// Detaches a link and removes its pin: nothing is attached there any more.
    pub(super) fn remove(&mut self, interface: &str, hook: Hook, pins: &Pins) -> Result<(), KernelError> {
        let pin = pins.link(interface, hook);
        let failed = || KernelError::refused(format!("{}: detaching", pin.display()));
        let held = self.0.remove(&(interface.to_owned(), hook));
        let link = held.map_or_else(|| Link::pinned(&pin), |link| Ok(Some(link))).map_err(failed())?;
        // Without pin and descriptor it is detached too, but some time later.
        link.map_or(Ok(()), |link| link.detach()).map_err(failed())?;
        unpin(&pin)
    }

    /// Detaches from hooks that a former configuration or an interface of another kind used, where others
    /// enforce now.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn detach_former(&mut self, attached: &[Attached], pins: &Pins) -> Result<(), KernelError> {
        let now: HashMap<_, _> = attached.iter().map(|now| (now.interface.as_str(), &now.hooks)).collect();
        for (name, hook) in pins.links()? {
            if now.get(name.as_str()).is_some_and(|hooks| !hooks.contains(&hook)) {
                self.remove(&name, hook, pins)?;
            }
        }
        Ok(())
    }

    /// What is wrong with a hook of the device that has an interface's name: nothing if every packet meets the
    /// link's program first, and that is `program`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn fault(
        &self,
        interface: &str,
        hook: Hook,
        device: &Device,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        self.fault_by(interface, hook, program, |link| fault_of(link, hook, device))
    }

    /// The same where rtnetlink has had no news since the device was asked for and had this index.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn fault_without_news(
        &self,
        interface: &str,
        hook: Hook,
        index: u32,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        self.fault_by(interface, hook, program, |link| fault_without_news(link, hook, index))
    }

    fn fault_by(
        &self,
        interface: &str,
        hook: Hook,
        program: u32,
        fault: impl FnOnce(&LinkInfo) -> io::Result<Option<Fault>>,
    ) -> Result<Option<Fault>, KernelError> {
        let failed =
            || KernelError::refused(format!("interface {interface}: asking what {} runs", hook.name()));
        let Some(link) = self.0.get(&(interface.to_owned(), hook)) else { return Ok(Some(Fault::Detached)) };
        let info = link.info().map_err(failed())?;
        if let Some(fault) = fault(&info).map_err(failed())? {
            return Ok(Some(fault));
        }
        let runs = info.program;
        Ok((runs != program).then_some(Fault::OtherProgram { program: runs }))
    }

    /// Whether the pin of a hook is there and holds the link.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn is_pinned(&self, interface: &str, hook: Hook, pins: &Pins) -> Result<bool, KernelError> {
        let Some(link) = self.0.get(&(interface.to_owned(), hook)) else { return Ok(false) };
        let pin = pins.link(interface, hook);
        is_pinned(link, &pin)
            .map_err(KernelError::refused(format!("{}: asking what it holds", pin.display())))
    }

    /// Takes away links that were not there `before`, but for those that took the place of one that was.
    pub fn undo(&mut self, pins: &Pins, before: &[(String, Hook)]) {
        let now = pins.links().unwrap_or_default();
        for link @ (interface, hook) in &now {
            let mut replaced =
                before.iter().filter(|(name, old)| name == interface && old.is_like(*hook)).peekable();
            let is_needed = replaced.peek().is_some() && replaced.all(|old| !now.contains(old));
            if !before.contains(link) && !is_needed {
                // An error here is followed by one that is told.
                let _ = self.remove(interface, *hook, pins);
            }
        }
    }

    /// Detaches from every interface that is not among `managed`; which ones.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn detach_others(
        &mut self,
        pins: &Pins,
        managed: &[&str],
    ) -> Result<Vec<(String, Hook)>, KernelError> {
        let mut others = pins.links()?;
        others.retain(|(interface, _)| !managed.contains(&interface.as_str()));
        for (interface, hook) in &others {
            unpin(&pins.link(interface, *hook))?;
        }
        self.0.retain(|(interface, _), _| managed.contains(&interface.as_str()));
        Ok(others)
    }

    /// Lets go of all of them; what is not pinned is detached.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Makes the pin hold this link, whatever it held before. At no moment is there no pin.
pub(super) fn keep_pinned(link: &Link, pin: &Path) -> io::Result<()> {
    if is_pinned(link, pin)? {
        return Ok(());
    }
    // bpffs takes no dot in names.
    let next = pin.with_file_name(format!("{}:next", pin.file_name().unwrap_or_default().display()));
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    link.pin(&next)?;
    fs::rename(next, pin)
}

fn unpin(pin: &Path) -> Result<(), KernelError> {
    fs::remove_file(pin).map_err(KernelError::refused(format!("{}: removing the link", pin.display())))
}
