//! Where programs are attached, and what is wrong with a hook: asked of the kernel, never remembered.

use std::io;
use std::path::Path;

use bulkhead_api::hook::{Fault, Hook};

use super::chain::{OnHook, chain};
use super::device::Device;
use super::link::{Link, LinkInfo};

/// What is wrong with `link`, which is to run on a hook of the device that has the name now; nothing if
/// every packet meets its program first.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn fault(link: &Link, hook: Hook, device: Option<&Device>) -> io::Result<Option<Fault>> {
    let Some(device) = device else { return Ok(Some(Fault::NoDevice)) };
    fault_of(&link.info()?, hook, device)
}

/// The same of what the kernel says of the link.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn fault_of(link: &LinkInfo, hook: Hook, device: &Device) -> io::Result<Option<Fault>> {
    fault_at(link, hook, device.index, |program| device.xdp == Some((hook, program)))
}

/// The same for a device of which rtnetlink has had no news since it was asked for and had this index: it
/// has its name, its index and its network namespace still.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn fault_without_news(link: &LinkInfo, hook: Hook, index: u32) -> io::Result<Option<Fault>> {
    fault_at(link, hook, index, |_| true)
}

fn fault_at(
    info: &LinkInfo,
    hook: Hook,
    index: u32,
    is_xdp: impl FnOnce(u32) -> bool,
) -> io::Result<Option<Fault>> {
    if info.index == 0 {
        return Ok(Some(Fault::Detached));
    }
    // Another namespace's device may have the same index: what counts is what is on this one.
    let elsewhere = Some(Fault::Elsewhere { index: info.index });
    if !hook.is_chain() {
        return Ok(if index == info.index && is_xdp(info.program) { None } else { elsewhere });
    }
    let chain = match chain(index, info.attach_type) {
        Ok(chain) => chain,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(Some(Fault::NoDevice)),
        Err(error) => return Err(error),
    };
    Ok(match chain.iter().position(|on_hook| on_hook.link == info.id) {
        None => elsewhere,
        Some(0) => None,
        Some(place) => Some(Fault::NotFirst { before: programs(&chain[..place]) }),
    })
}

fn programs(chain: &[OnHook]) -> Vec<u32> {
    chain.iter().map(|on_hook| on_hook.program).collect()
}

/// Whether `pin` holds this very link.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn is_pinned(link: &Link, pin: &Path) -> io::Result<bool> {
    let Some(pinned) = Link::pinned(pin)? else { return Ok(false) };
    // What is no link is nothing that an agent has pinned.
    let pinned = pinned.info().map(|info| info.id).ok();
    Ok(pinned == Some(link.info()?.id))
}
