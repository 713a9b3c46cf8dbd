//! Who sends, where a test says so.

/// Who hands over a packet that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The ids of the cgroup that its socket is in and of those above, by level from the root's.
    pub cgroups: Vec<u64>,
    /// It is the kernel itself. By default nobody of this host is the sender: the packet is forwarded.
    pub is_kernel: bool,
    /// Its socket is a packet socket.
    pub is_packet_socket: bool,
}
