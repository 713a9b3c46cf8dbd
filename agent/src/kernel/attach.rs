//! Attaches a generation to its hooks, or swaps it into links that are there: one atomic
//! link update a hook, never detach and re-attach.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, ProgramError, TcAttachType, XdpMode};
use aya::sys::SyscallError;

use super::programs::Program;
use super::{Generation, Interface, KernelError, Pins, name_of};

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
    if let Some(link) = pinned(&pin)? {
        if update(generation, interface, hook, link)? {
            return Ok(());
        }
        // The interface went and came back under its name: the link holds nothing any more.
        unpin(&pin)?;
    }
    let link = create(generation, interface, hook)?;
    link.pin(&pin).map_err(KernelError::refused(format!("{}: pinning", pin.display())))?;
    Ok(())
}

fn refused_at<E>(interface: &Interface, hook: Hook) -> impl FnOnce(E) -> KernelError + use<E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    KernelError::refused(format!("interface {}: {}", interface.name, hook.name()))
}

fn pinned(pin: &Path) -> Result<Option<FdLink>, KernelError> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(FdLink::from(link))),
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(KernelError::refused(format!("{}: opening the pinned link", pin.display()))(error)),
    }
}

fn is_dead_link(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. }) if io_error.raw_os_error() == Some(libc::ENOLINK))
}

/// Replaces the program of a link atomically; false if the link's interface is gone. The link
/// is dropped here, so that the program's end does not detach it; its pin keeps it.
fn update(
    generation: &mut Generation,
    interface: &Interface,
    hook: Hook,
    link: FdLink,
) -> Result<bool, KernelError> {
    let updated = match hook {
        Hook::TcxIngress | Hook::TcxEgress => {
            let program = generation.classifier(&interface.name, generation.on_hook(program_of(hook)))?;
            let link = link.try_into().map_err(refused_at::<LinkError>(interface, hook))?;
            program
                .attach_to_link(link)
                .and_then(|id| program.take_link(id))
                .map(|link| drop(FdLink::try_from(link)))
        }
        Hook::XdpNative | Hook::XdpGeneric => {
            let program = generation.xdp(&interface.name, generation.on_hook(program_of(hook)))?;
            let link = link.try_into().map_err(refused_at::<LinkError>(interface, hook))?;
            program
                .attach_to_link(link)
                .and_then(|id| program.take_link(id))
                .map(|link| drop(FdLink::try_from(link)))
        }
    };
    match updated {
        Ok(()) => Ok(true),
        Err(error) if is_dead_link(&error) => Ok(false),
        Err(error) => Err(refused_at(interface, hook)(error)),
    }
}

fn create(generation: &mut Generation, interface: &Interface, hook: Hook) -> Result<FdLink, KernelError> {
    match hook {
        Hook::TcxIngress | Hook::TcxEgress => {
            let program = generation.classifier(&interface.name, generation.on_hook(program_of(hook)))?;
            let direction =
                if hook == Hook::TcxIngress { TcAttachType::Ingress } else { TcAttachType::Egress };
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            // It may be known by an alternative name.
            let name =
                name_of(interface.index).ok_or_else(|| KernelError::NoInterface(interface.name.clone()))?;
            let id = program
                .attach_with_options(&name, direction, options)
                .map_err(refused_at(interface, hook))?;
            let link = program.take_link(id).map_err(refused_at(interface, hook))?;
            FdLink::try_from(link).map_err(KernelError::refused("a TCX link"))
        }
        Hook::XdpNative | Hook::XdpGeneric => {
            let mode = if hook == Hook::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
            let program = generation.xdp(&interface.name, generation.on_hook(program_of(hook)))?;
            let id = match program.attach_to_if_index(interface.index, mode) {
                Ok(id) => id,
                Err(error) if is_busy(&error) => return Err(KernelError::XdpBusy(interface.name.clone())),
                Err(error) => return Err(refused_at(interface, hook)(error)),
            };
            let link = program.take_link(id).map_err(refused_at(interface, hook))?;
            // aya falls back to netlink silently; such an attachment is no link, cannot be
            // pinned, and ends when `link` is dropped here.
            FdLink::try_from(link).map_err(KernelError::refused(format!(
                "interface {}: {}: the kernel made no BPF link",
                interface.name,
                hook.name()
            )))
        }
    }
}

fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. }) if io_error.raw_os_error() == Some(libc::EBUSY))
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
