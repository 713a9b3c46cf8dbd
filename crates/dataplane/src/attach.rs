//! Attaches a generation to its hooks, or swaps it into links that are there: one atomic
//! link update a hook, never detach and re-attach.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use bulkhead_api::hook::{Attached, Fault};

use super::device::{DEVICE_GROUP, Device, Devices};
use super::link::Link;
use super::links::{Links, Standing};
use super::probe::{DROP, constant};
use super::{Group, Hook, Interface, KernelError, Pins};

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
    let on_hooks: Vec<_> = hooks.iter().map(|hook| group.program_id(*hook)).collect::<Result<_, _>>()?;
    let (programs, tags) = on_hooks.into_iter().unzip();
    let enforcing = hooks.iter().map(|hook| group.enforcing_id(*hook)).collect::<Result<_, _>>()?;
    let Interface { name, device, index, group: in_group, .. } = interface.clone();
    let contested = false;
    Ok(Attached {
        interface: name,
        device,
        index,
        group: in_group,
        hooks,
        programs,
        enforcing,
        tags,
        contested,
        fallback,
    })
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
    let Standing { link, former } = links.take(interface, hook, pins)?;
    let link = match link {
        Some((link, Some(Fault::NotFirst { .. }))) => put_first(&link, program, interface.index, hook),
        Some((link, _)) => link.update(program).map(|()| link),
        None => Link::create(program, interface.index, hook),
    };
    links.keep(&interface.name, hook, link.map_err(refused)?, former, pins)
}

/// A link before all others in place of one that is not. The kernel takes no program twice on a hook: until
/// this one is free for another place, what comes is dropped.
fn put_first(link: &Link, program: BorrowedFd, index: u32, hook: Hook) -> io::Result<Link> {
    let first = Link::create(constant(DROP)?.as_fd(), index, hook)?;
    link.detach()?;
    first.update(program)?;
    Ok(first)
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
