//! Where programs are attached, and what is wrong with a hook: asked of the kernel, never remembered.

use std::fmt;
use std::io;
use std::path::Path;

use super::chain::{OnHook, chain};
use super::device::Device;
use super::link::Link;
use super::programs::Program;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::TcxIngress, Self::TcxEgress, Self::XdpNative, Self::XdpGeneric];

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

    /// Its name in sentences.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::TcxIngress => "TCX at ingress",
            Self::TcxEgress => "TCX at egress",
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
        }
    }

    /// Whether both see the packets of one direction.
    #[must_use]
    pub const fn is_like(self, other: Self) -> bool {
        matches!(self, Self::TcxEgress) == matches!(other, Self::TcxEgress)
    }

    /// The program that enforces there.
    pub(super) const fn program(self) -> Program {
        match self {
            Self::TcxIngress => Program::TcIngress,
            Self::TcxEgress => Program::TcEgress,
            Self::XdpNative | Self::XdpGeneric => Program::XdpIngress,
        }
    }

    /// The hook of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether other programs can run before ours.
    const fn is_chain(self) -> bool {
        matches!(self, Self::TcxIngress | Self::TcxEgress)
    }
}

/// Why a hook does not judge every packet of its device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// No device has the name.
    NoDevice,
    /// The link is detached: its device is gone, or somebody has detached it.
    Detached,
    /// The link is on another device, of this index in whichever network namespace.
    Elsewhere {
        /// That device's index.
        index: u32,
    },
    /// Programs of others run before ours and may let packets pass by it.
    NotFirst {
        /// Their numbers, the first first.
        before: Vec<u32>,
    },
    /// Another program than the generation's is in the link.
    OtherProgram {
        /// Its number.
        program: u32,
    },
    /// The link is not pinned: enforcement would end with the agent.
    Unpinned,
}

impl Fault {
    /// Whether packets pass unjudged because of it, unless the guard drops them.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self, Self::NoDevice | Self::Unpinned)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("no interface has this name"),
            Self::Detached => f.write_str("the program is not attached"),
            Self::Elsewhere { index } => {
                write!(f, "the program is attached to another interface (index {index}), which had the name")
            }
            Self::NotFirst { before } => {
                let before: Vec<_> = before.iter().map(ToString::to_string).collect();
                write!(f, "other programs run before ours (number {})", before.join(", "))
            }
            Self::OtherProgram { program } => {
                write!(f, "the link runs a program (number {program}) that is not the generation's")
            }
            Self::Unpinned => f.write_str("the link is not pinned"),
        }
    }
}

/// What is wrong with `link`, which is to run on a hook of the device that has the name now; nothing if
/// every packet meets its program first.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn fault(link: &Link, hook: Hook, device: Option<&Device>) -> io::Result<Option<Fault>> {
    let Some(device) = device else { return Ok(Some(Fault::NoDevice)) };
    fault_at(link, hook, device.index, |program| device.xdp == Some((hook, program)))
}

/// The same for a device of which rtnetlink has had no news since it was asked for and had this index: it
/// has its name, its index and its network namespace still.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn fault_without_news(link: &Link, hook: Hook, index: u32) -> io::Result<Option<Fault>> {
    fault_at(link, hook, index, |_| true)
}

fn fault_at(
    link: &Link,
    hook: Hook,
    index: u32,
    is_xdp: impl FnOnce(u32) -> bool,
) -> io::Result<Option<Fault>> {
    let info = link.info()?;
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
