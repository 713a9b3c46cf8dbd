//! Attaches a generation to its hooks, or swaps it into links that are there: one atomic
//! link update a hook, never detach and re-attach.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::bpf;
use super::device::{Device, Devices};
use super::hook::{Fault, fault, is_pinned};
use super::programs::Program;
use super::{Generation, Hook, Interface, KernelError, Pins};

/// What was attached, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// The hooks, ingress first.
    pub hooks: Vec<Hook>,
    /// The numbers of the programs on them.
    #[serde(default)]
    pub programs: Vec<u32>,
}

impl Attached {
    /// An interface that is not there.
    #[must_use]
    pub fn absent(interface: &str) -> Self {
        Self { interface: interface.to_owned(), index: 0, hooks: Vec::new(), programs: Vec::new() }
    }
}

/// The links of an instance, held open: while they are, removing their pins detaches nothing.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<(String, Hook), OwnedFd>);

impl Links {
    /// The (interface, hook) pairs that are held.
    #[must_use]
    pub fn names(&self) -> Vec<(String, Hook)> {
        self.0.keys().cloned().collect()
    }

    /// Lets go of an interface's links but those of these hooks, and removes their pins: nothing is attached
    /// there any more.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    fn keep(&mut self, interface: &str, hooks: &[Hook], pins: &Pins) -> Result<(), KernelError> {
        for (name, hook) in pins.links()? {
            if name == interface && !hooks.contains(&hook) {
                unpin(&pins.link(&name, hook))?;
            }
        }
        self.0.retain(|(name, hook), _| name != interface || hooks.contains(hook));
        Ok(())
    }

    /// What is wrong with a hook: nothing if the link is pinned, every packet meets its program first, and
    /// that is `program`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn fault(
        &self,
        interface: &str,
        hook: Hook,
        device: Option<&Device>,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        let failed =
            || KernelError::refused(format!("interface {interface}: asking what {} runs", hook.name()));
        let Some(link) = self.0.get(&(interface.to_owned(), hook)) else {
            return Ok(Some(if device.is_some() { Fault::Detached } else { Fault::NoDevice }));
        };
        if let Some(fault) = fault(link, hook, device).map_err(failed())? {
            return Ok(Some(fault));
        }
        let runs = bpf::link_info(link.as_fd()).map_err(failed())?.program;
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

    /// Takes away links that were not there `before`.
    pub fn undo(&mut self, pins: &Pins, before: &[(String, Hook)]) {
        for (interface, hook) in attached_hooks(pins).unwrap_or_default() {
            if !before.contains(&(interface.clone(), hook)) {
                // An error here is followed by one that is told.
                let _ = fs::remove_file(pins.link(&interface, hook));
            }
        }
        self.0.retain(|link, _| before.contains(link));
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

/// Puts the generation's programs on the interface's hooks, before all others. Links that are on this
/// very device are updated in place; else new ones are made, and take the place of their pins.
///
/// # Errors
/// If a hook refuses. Links that were updated until then stay enforced.
pub fn attach(
    generation: &mut Generation,
    interface: &Interface,
    ingress: &[Hook],
    pins: &Pins,
    links: &mut Links,
) -> Result<Attached, KernelError> {
    pins.create_links(&interface.name)?;
    let ingress = attach_ingress(generation, interface, ingress, pins, links)?;
    attach_one(generation, interface, Hook::TcxEgress, pins, links)?;
    let hooks = vec![ingress, Hook::TcxEgress];
    // Hooks that a former configuration or an interface of another kind used, now that others enforce.
    links.keep(&interface.name, &hooks, pins)?;
    let programs = hooks.iter().map(|hook| generation.program_id(&interface.name, *hook));
    let programs = programs.collect::<Result<_, _>>()?;
    Ok(Attached { interface: interface.name.clone(), index: interface.index, hooks, programs })
}

/// The first of `candidates` that the kernel takes; one that is pinned already goes first.
fn attach_ingress(
    generation: &mut Generation,
    interface: &Interface,
    candidates: &[Hook],
    pins: &Pins,
    links: &mut Links,
) -> Result<Hook, KernelError> {
    let mut order = candidates.to_vec();
    order.sort_by_key(|hook| !pins.link(&interface.name, *hook).exists());
    let mut refused = None;
    for hook in order {
        match attach_one(generation, interface, hook, pins, links) {
            Ok(()) => return Ok(hook),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| KernelError::NoInterface(interface.name.clone())))
}

fn attach_one(
    generation: &mut Generation,
    interface: &Interface,
    hook: Hook,
    pins: &Pins,
    links: &mut Links,
) -> Result<(), KernelError> {
    let refused = |error: io::Error| match error.raw_os_error() {
        Some(libc::EBUSY) if matches!(hook, Hook::XdpNative | Hook::XdpGeneric) => {
            KernelError::XdpBusy(interface.name.clone())
        }
        _ => KernelError::refused(format!("interface {}: {}", interface.name, hook.name()))(error),
    };
    let pin = pins.link(&interface.name, hook);
    let held = links.0.remove(&(interface.name.clone(), hook));
    let known = match held {
        Some(link) => Some(link),
        None => bpf::open(&pin).map_err(KernelError::refused(format!("{}: opening", pin.display())))?,
    };
    let program = generation.program(&interface.name, program_of(hook))?;
    let device = Devices::open().and_then(|devices| devices.by_index(interface.index)).map_err(refused)?;
    let updated = match known {
        // Its interface was renamed, moved, or went and came back under its name; or somebody else has put
        // a program before ours: another link is made, and then this one let go.
        Some(link) if fault(&link, hook, device.as_ref()).map_err(refused)?.is_none() => {
            bpf::update(link.as_fd(), program).map_err(refused)?;
            Some(link)
        }
        _ => None,
    };
    let link = match updated {
        Some(link) => link,
        None => bpf::attach(program, interface.index, hook).map_err(refused)?,
    };
    let pinned = keep_pinned(&link, &pin);
    links.0.insert((interface.name.clone(), hook), link);
    pinned.map_err(KernelError::refused(format!("{}: pinning", pin.display())))
}

/// Makes the pin hold this link, whatever it held before. At no moment is there no pin.
fn keep_pinned(link: &OwnedFd, pin: &Path) -> io::Result<()> {
    if is_pinned(link, pin)? {
        return Ok(());
    }
    // bpffs takes no dot in names.
    let next = pin.with_file_name(format!("{}:next", pin.file_name().unwrap_or_default().display()));
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bpf::pin(link.as_fd(), &next)?;
    fs::rename(next, pin)
}

fn unpin(pin: &Path) -> Result<(), KernelError> {
    fs::remove_file(pin).map_err(KernelError::refused(format!("{}: removing the link", pin.display())))
}

pub(super) const fn program_of(hook: Hook) -> Program {
    match hook {
        Hook::TcxIngress => Program::TcIngress,
        Hook::TcxEgress => Program::TcEgress,
        Hook::XdpNative | Hook::XdpGeneric => Program::XdpIngress,
    }
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
    pins.remove_all()?;
    Ok(links)
}
