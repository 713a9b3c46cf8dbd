//! Where programs are attached, and what is wrong there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an interface hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ethernet frames.
    Ethernet,
    /// IP packets (WireGuard, TUN).
    BareIp,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    #[must_use]
    pub const fn title(self) -> &'static str {
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

    /// The hook of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether other programs can run before ours.
    #[must_use]
    pub const fn is_chain(self) -> bool {
        matches!(self, Self::TcxIngress | Self::TcxEgress)
    }
}

/// Why a hook does not judge every packet of its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// What was attached, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The numbers of the programs that enforce there: the same, unless those of a staged policy observe before them.
    #[serde(default)]
    pub enforcing: Vec<u32>,
    /// The tags of the programs on the hooks: the first 8 bytes of a SHA-1 of their instructions, hexadecimal
    /// (`bpf_prog_calc_tag`, kernel/bpf/core.c).
    #[serde(default)]
    pub tags: Vec<String>,
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
            enforcing: Vec::new(),
            tags: Vec::new(),
            contested: false,
            fallback: None,
        }
    }
}

/// One pinned link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunningLink {
    /// The name by which its interface is managed.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The interface's index; 0 if it is gone, and with it the enforcement.
    pub index: u32,
    /// The number of the program that it has now.
    #[serde(default)]
    pub program: u32,
    /// The generation whose tables the program reads; none if its pins are gone.
    pub generation: Option<u32>,
    /// The map ABI version of the agent that pinned it.
    pub layout: u32,
    /// Why it does not judge every packet of the interface that has the name now.
    pub fault: Option<Fault>,
}
