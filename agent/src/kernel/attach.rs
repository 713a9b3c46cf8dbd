//! Attaches a generation to its hooks, or swaps it into links that are there: one atomic
//! link update a hook, never detach and re-attach.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::device::{DEVICE_GROUP, Device, Devices};
use super::hook::{Fault, fault, fault_without_news, is_pinned};
use super::link::Link;
use super::probe::{DROP, constant};
use super::{Group, Hook, Interface, KernelError, Pins};

/// What was attached, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// The name that its device has; the interface's may be an alternative one.
    #[serde(default)]
    pub device: String,
    /// Its index; 0 if it is not there.
    pub index: u32,
    /// Its device's group.
    #[serde(default)]
    pub group: u32,
    /// The hooks, ingress first.
    pub hooks: Vec<Hook>,
    /// The numbers of the programs on them.
    #[serde(default)]
    pub programs: Vec<u32>,
    /// Others take enforcement from it again and again: it is to be kept closed.
    #[serde(default)]
    pub contested: bool,
    /// Why ingress is not at the best hook: what the kernel answered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

impl Attached {
    /// An interface that is not there.
    #[must_use]
    pub fn absent(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            device: String::new(),
            index: 0,
            group: 0,
            hooks: Vec::new(),
            programs: Vec::new(),
            contested: false,
            fallback: None,
        }
    }
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
    fn evict(&mut self, interface: &str, index: u32, pins: &Pins) -> Result<(), KernelError> {
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
    fn remove(&mut self, interface: &str, hook: Hook, pins: &Pins) -> Result<(), KernelError> {
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
        self.fault_of(interface, hook, program, |link| fault(link, hook, Some(device)))
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
        self.fault_of(interface, hook, program, |link| fault_without_news(link, hook, index))
    }

    fn fault_of(
        &self,
        interface: &str,
        hook: Hook,
        program: u32,
        fault: impl FnOnce(&Link) -> io::Result<Option<Fault>>,
    ) -> Result<Option<Fault>, KernelError> {
        let failed =
            || KernelError::refused(format!("interface {interface}: asking what {} runs", hook.name()));
        let Some(link) = self.0.get(&(interface.to_owned(), hook)) else { return Ok(Some(Fault::Detached)) };
        if let Some(fault) = fault(link).map_err(failed())? {
            return Ok(Some(fault));
        }
        let runs = link.info().map_err(failed())?.program;
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
        let now = attached_hooks(pins).unwrap_or_default();
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

/// Puts a group's programs on the interface's hooks, before all others; at ingress on the first of `ingress`
/// that the kernel takes. Links that are on this very device are updated in place; else new ones are made, and
/// take the place of their pins. Hooks that a former configuration used stay until [`Links::detach_former`].
///
/// # Errors
/// If a hook refuses. Links that were updated until then stay enforced.
pub fn attach(
    group: &mut Group,
    interface: &Interface,
    ingress: &[Hook],
    pins: &Pins,
    links: &mut Links,
) -> Result<Attached, KernelError> {
    pins.create_links(&interface.name)?;
    let (ingress, fallback) = attach_ingress(group, interface, ingress, pins, links)?;
    attach_one(group, interface, Hook::TcxEgress, pins, links)?;
    links.evict(&interface.name, interface.index, pins)?;
    let hooks = vec![ingress, Hook::TcxEgress];
    let programs = hooks.iter().map(|hook| group.program_id(*hook)).collect::<Result<_, _>>()?;
    let Interface { name, device, index, group: in_group, .. } = interface.clone();
    let contested = false;
    Ok(Attached { interface: name, device, index, group: in_group, hooks, programs, contested, fallback })
}

/// The first of `candidates` that the kernel takes, and why it is not the first of them.
fn attach_ingress(
    group: &mut Group,
    interface: &Interface,
    candidates: &[Hook],
    pins: &Pins,
    links: &mut Links,
) -> Result<(Hook, Option<String>), KernelError> {
    if candidates.contains(&Hook::XdpNative) && pins.link(&interface.name, Hook::XdpGeneric).exists() {
        // Both kinds of XDP at once are refused: TCX enforces while one makes room for the other.
        attach_one(group, interface, Hook::TcxIngress, pins, links)?;
        links.remove(&interface.name, Hook::XdpGeneric, pins)?;
    }
    let mut fallback = None;
    for (place, hook) in candidates.iter().enumerate() {
        match attach_one(group, interface, *hook, pins, links) {
            Ok(()) => return Ok((*hook, fallback)),
            // Whose program it is must be told, not worked around.
            Err(error) if place + 1 == candidates.len() || matches!(error, KernelError::XdpBusy(_)) => {
                return Err(error);
            }
            Err(error) => fallback = Some(format!("no {}: {}", hook.title(), innermost(&error))),
        }
    }
    Err(KernelError::NoInterface(interface.name.clone()))
}

/// The kernel's own words.
fn innermost(error: &KernelError) -> String {
    let mut error: &dyn Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn attach_one(
    group: &mut Group,
    interface: &Interface,
    hook: Hook,
    pins: &Pins,
    links: &mut Links,
) -> Result<(), KernelError> {
    let refused = |error: io::Error| match error.raw_os_error() {
        // EEXIST: it is of the other kind, which excludes this one.
        Some(libc::EBUSY | libc::EEXIST) if matches!(hook, Hook::XdpNative | Hook::XdpGeneric) => {
            KernelError::XdpBusy(interface.name.clone())
        }
        // `bpf_mprog_attach`, kernel/bpf/mprog.c. Of native XDP it is about the length of frames.
        Some(libc::ERANGE) if matches!(hook, Hook::TcxIngress | Hook::TcxEgress) => {
            KernelError::HookFull { interface: interface.name.clone(), hook: hook.name() }
        }
        _ => KernelError::refused(format!("interface {}: {}", interface.name, hook.name()))(error),
    };
    group.load(hook)?;
    let program = group.program(hook)?;
    let pin = pins.link(&interface.name, hook);
    let known = match links.0.remove(&(interface.name.clone(), hook)) {
        Some(link) => Some(link),
        None => Link::pinned(&pin).map_err(KernelError::refused(format!("{}: opening", pin.display())))?,
    };
    let device = Devices::open().and_then(|devices| devices.by_index(interface.index)).map_err(refused)?;
    let wrong_with = |link: &Link| fault(link, hook, device.as_ref()).map_err(refused);
    let mut wrong = known.as_ref().map(wrong_with).transpose()?.flatten();
    let (mut known, mut former) = (known, None);
    if !matches!(wrong, None | Some(Fault::NotFirst { .. })) || known.is_none() {
        // Its interface was renamed, moved, or went and came back under its name. Where two have swapped their
        // names, each device has the other's link.
        let other =
            device.as_ref().and_then(|device| links.under_another_name(&interface.name, hook, device));
        let found = other.and_then(|other| Some((links.0.remove(&(other.clone(), hook))?, other)));
        former = std::mem::take(&mut known).zip(found.as_ref().map(|(_, other)| other.clone()));
        known = found.map(|(link, _)| link);
        wrong = known.as_ref().map(wrong_with).transpose()?.flatten();
    }
    let link = match (known, wrong) {
        (Some(link), Some(Fault::NotFirst { .. })) => put_first(&link, program, interface.index, hook),
        (Some(link), _) => link.update(program).map(|()| link),
        (None, _) => Link::create(program, interface.index, hook),
    };
    let link = link.map_err(refused)?;
    let mut pinned = keep_pinned(&link, &pin);
    links.0.insert((interface.name.clone(), hook), link);
    if let Some((link, other)) = former {
        pinned = pinned.and(keep_pinned(&link, &pins.link(&other, hook)));
        links.0.insert((other, hook), link);
    }
    pinned.map_err(KernelError::refused(format!("{}: pinning", pin.display())))
}

/// A link before all others in place of one that is not. The kernel takes no program twice on a hook: until
/// this one is free for another place, what comes is dropped.
fn put_first(link: &Link, program: BorrowedFd, index: u32, hook: Hook) -> io::Result<Link> {
    let first = Link::create(constant(DROP)?.as_fd(), index, hook)?;
    link.detach()?;
    first.update(program)?;
    Ok(first)
}

/// Makes the pin hold this link, whatever it held before. At no moment is there no pin.
fn keep_pinned(link: &Link, pin: &Path) -> io::Result<()> {
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

/// The hooks that have a pinned link, by interface.
///
/// # Errors
/// If the pins cannot be read.
pub fn attached_hooks(pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
    pins.links()
}

/// Detaches every hook and removes every pin of the instance: enforcement ends here.
///
/// # Errors
/// If a pin cannot be removed.
pub fn detach(pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
    let mut links = pins.links()?;
    for other in pins.others()? {
        links.extend(other.links()?);
    }
    // What this cannot reset is a number that nobody reads any more.
    let _ = Devices::open().map(|devices| links.iter().for_each(|(name, _)| unmark(&devices, name)));
    pins.remove_all()?;
    Ok(links)
}

/// Takes an interface's device out of the agent's group.
fn unmark(devices: &Devices, interface: &str) {
    if let Ok(Some(Device { index, group: DEVICE_GROUP, .. })) = devices.by_name(interface) {
        let _ = devices.set_group(index, 0);
    }
}
