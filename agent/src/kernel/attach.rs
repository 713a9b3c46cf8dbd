//! Attaches a generation to its hooks, or swaps it into links that are there: one atomic
//! link update a hook, never detach and re-attach.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::link::Link;
use super::programs::Program;
use super::{Generation, Interface, KernelError, Pins};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// TCX, ingress.
    TcxIngress,
    /// TCX, egress.
    TcxEgress,
    /// XDP by the driver, ingress.
    XdpNative,
    /// XDP on packets that the stack has already wrapped, ingress.
    XdpGeneric,
}

impl Hook {
    const ALL: [Self; 4] = [Self::TcxIngress, Self::TcxEgress, Self::XdpNative, Self::XdpGeneric];

    /// Its name, as in pins and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The hook of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

/// What was attached, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// The hooks, ingress first.
    pub hooks: Vec<Hook>,
}

/// Puts the generation's programs on the interface's hooks. Links that are pinned are
/// updated in place; others are made and pinned.
///
/// # Errors
/// If a hook refuses. Links that were updated until then stay enforced.
pub fn attach(
    generation: &mut Generation,
    interface: &Interface,
    ingress: &[Hook],
    pins: &Pins,
) -> Result<Attached, KernelError> {
    pins.create_links(&interface.name)?;
    let ingress = attach_ingress(generation, interface, ingress, pins)?;
    attach_one(generation, interface, Hook::TcxEgress, pins)?;
    // Hooks that a former configuration or an interface of another kind used, now that others enforce.
    for (name, hook) in pins.links()? {
        if name == interface.name && hook != ingress && hook != Hook::TcxEgress {
            unpin(&pins.link(&name, hook))?;
        }
    }
    Ok(Attached {
        interface: interface.name.clone(),
        index: interface.index,
        hooks: vec![ingress, Hook::TcxEgress],
    })
}

/// The first of `candidates` that the kernel takes; one that is pinned already goes first.
fn attach_ingress(
    generation: &mut Generation,
    interface: &Interface,
    candidates: &[Hook],
    pins: &Pins,
) -> Result<Hook, KernelError> {
    let mut order = candidates.to_vec();
    order.sort_by_key(|hook| !pins.link(&interface.name, *hook).exists());
    let mut refused = None;
    for hook in order {
        match attach_one(generation, interface, hook, pins) {
            Ok(()) => return Ok(hook),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| KernelError::NoInterface(interface.name.clone())))
}

/// Detaches from every interface that is not among `managed`; which ones.
///
/// # Errors
/// If a pin cannot be removed.
pub fn detach_others(pins: &Pins, managed: &[&str]) -> Result<Vec<(String, Hook)>, KernelError> {
    let mut others = pins.links()?;
    others.retain(|(interface, _)| !managed.contains(&interface.as_str()));
    for (interface, hook) in &others {
        unpin(&pins.link(interface, *hook))?;
    }
    Ok(others)
}

fn unpin(pin: &Path) -> Result<(), KernelError> {
    fs::remove_file(pin).map_err(KernelError::refused(format!("{}: removing the link", pin.display())))
}

fn attach_one(
    generation: &mut Generation,
    interface: &Interface,
    hook: Hook,
    pins: &Pins,
) -> Result<(), KernelError> {
    let pin = pins.link(&interface.name, hook);
    let program = generation.program(&interface.name, generation.on_hook(program_of(hook)))?;
    let opening = KernelError::refused(format!("{}: opening the pinned link", pin.display()));
    if let Some(link) = Link::pinned(&pin).map_err(opening)? {
        match link.update(program) {
            Ok(()) => return Ok(()),
            // The interface went and came back under its name: the link holds nothing any more.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => unpin(&pin)?,
            Err(error) => return Err(refused_at(interface, hook)(error)),
        }
    }
    let link = create(program, interface, hook)?;
    link.pin(&pin).map_err(KernelError::refused(format!("{}: pinning", pin.display())))
}

fn refused_at(interface: &Interface, hook: Hook) -> impl FnOnce(io::Error) -> KernelError + use<> {
    KernelError::refused(format!("interface {}: {}", interface.name, hook.name()))
}

fn create(program: BorrowedFd<'_>, interface: &Interface, hook: Hook) -> Result<Link, KernelError> {
    let is_xdp = matches!(hook, Hook::XdpNative | Hook::XdpGeneric);
    Link::create(program, interface.index, hook).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) if is_xdp => KernelError::XdpBusy(interface.name.clone()),
        _ => refused_at(interface, hook)(error),
    })
}

const fn program_of(hook: Hook) -> Program {
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
