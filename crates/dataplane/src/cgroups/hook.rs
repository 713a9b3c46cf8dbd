//! The hooks of a cgroup, and which programs go there.

/// A hook of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CgroupHook {
    /// A socket of IPv4 is bound.
    Bind4,
    /// A socket of IPv6 is bound.
    Bind6,
    /// A socket of IPv4 connects.
    Connect4,
    /// A socket of IPv6 connects.
    Connect6,
    /// A UDP socket that is not connected sends by IPv4.
    SendMsg4,
    /// The same by IPv6.
    SendMsg6,
    /// An option of a socket is set.
    SetSockOpt,
    /// A socket's packet leaves.
    Egress,
    /// A packet comes for a socket.
    Ingress,
}

impl CgroupHook {
    /// All of them, in the order in which they are attached: those of packets last, so that a socket that may send has
    /// been asked before.
    pub const ALL: [Self; 9] = [
        Self::Bind4,
        Self::Bind6,
        Self::Connect4,
        Self::Connect6,
        Self::SendMsg4,
        Self::SendMsg6,
        Self::SetSockOpt,
        Self::Egress,
        Self::Ingress,
    ];

    /// Its name, as that of its pin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind4 => "bind4",
            Self::Bind6 => "bind6",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::SendMsg4 => "sendmsg4",
            Self::SendMsg6 => "sendmsg6",
            Self::SetSockOpt => "setsockopt",
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// The hook of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Its number in `enum bpf_attach_type`, linux/bpf.h.
    pub(super) const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
            Self::Bind4 => 8,
            Self::Bind6 => 9,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::SendMsg4 => 14,
            Self::SendMsg6 => 15,
            Self::SetSockOpt => 22,
        }
    }

    /// The program for a workload's cgroup.
    pub(super) const fn of_workload(self) -> &'static str {
        match self {
            Self::Bind4 => "workload_bind4",
            Self::Bind6 => "workload_bind6",
            Self::Connect4 => "workload_connect4",
            Self::Connect6 => "workload_connect6",
            Self::SendMsg4 => "workload_sendmsg4",
            Self::SendMsg6 => "workload_sendmsg6",
            Self::SetSockOpt => "workload_setsockopt",
            Self::Egress => "workload_egress",
            Self::Ingress => "workload_ingress",
        }
    }

    /// The program for the root cgroup, where there is one.
    pub(super) const fn of_host(self) -> Option<&'static str> {
        match self {
            Self::Bind4 => Some("host_bind4"),
            Self::Bind6 => Some("host_bind6"),
            Self::Connect4 => Some("host_connect4"),
            Self::Connect6 => Some("host_connect6"),
            Self::SetSockOpt => Some("host_setsockopt"),
            Self::Egress => Some("host_egress"),
            Self::Ingress => Some("host_ingress"),
            Self::SendMsg4 | Self::SendMsg6 => None,
        }
    }
}
