//! The ports of connections outwards.

/// First and last of the ports that the kernel gives to connections outwards, in this network namespace.
/// None, 0 to 0, if the kernel does not say.
pub(super) fn outward_ports() -> [u16; 2] {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => [first, last],
        _ => [0, 0],
    }
}
