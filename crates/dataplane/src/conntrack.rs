//! Connections that the host forwards, or whose addresses it translates, as far as the kernel's own
//! connection tracking knows them: at the first attach they become flows.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use bulkhead_abi::Direction;

use super::seed::{key, store};
use super::{Importer, KernelError};

/// Where the kernel lists them for this thread's network namespace.
const LIST: &str = "/proc/thread-self/net/nf_conntrack";

/// A TCP connection as its ends see it, where addresses are translated: who began it and whom he
/// asked, and who answers whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Source and destination of what the initiator sends.
    pub original: [SocketAddr; 2],
    /// Source and destination of what is sent back.
    pub reply: [SocketAddr; 2],
}

/// The open TCP connections that are tracked. None where the kernel tracks nothing, or does not list
/// it in /proc.
#[must_use]
pub fn connections() -> Vec<Tracked> {
    fs::read_to_string(LIST).map(|list| list.lines().filter_map(parse).collect()).unwrap_or_default()
}

/// Reads one line: family, protocol, seconds, state, then both tuples, and marks in brackets.
fn parse(line: &str) -> Option<Tracked> {
    const OPEN: [&str; 4] = ["ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK"];
    let mut words = line.split_ascii_whitespace().skip(2);
    if words.next()? != "tcp" || !OPEN.contains(&words.nth(2)?) {
        return None;
    }
    let mut value = |name: &str| words.by_ref().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let mut tuple = || {
        let [source, destination]: [IpAddr; 2] = [value("src")?.parse().ok()?, value("dst")?.parse().ok()?];
        let [from, to]: [u16; 2] = [value("sport")?.parse().ok()?, value("dport")?.parse().ok()?];
        Some([SocketAddr::new(source, from), SocketAddr::new(destination, to)])
    };
    Some(Tracked { original: tuple()?, reply: tuple()? })
}

/// Records them as established flows, where they are not tracked yet: what comes in has the addresses
/// that its sender gave it, and what goes out those that the answer comes to. As for the host's own,
/// the policy judges them again. `now` is the flow clock's. Returns how many flows found no place.
///
/// # Errors
/// If the kernel refuses.
pub fn seed(
    importer: &mut Importer,
    connections: &[Tracked],
    zones: &[u16],
    now: u64,
) -> Result<usize, KernelError> {
    store(importer, connections, zones, now, |tracked, zone| {
        let ([from, to], [answers, asked]) = (tracked.original, tracked.reply);
        [key(from, to, Direction::Ingress, zone), key(asked, answers, Direction::Egress, zone)]
    })
}

#[cfg(test)]
mod tests {
    use super::{Tracked, parse};

    #[test]
    fn open_connections_are_read_with_their_translation() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.1.2.3 dst=100.64.0.2 sport=40000 dport=443 \
                    src=100.64.0.2 dst=100.64.0.1 sport=443 dport=1025 [ASSURED] mark=0 zone=0 use=2";
        let end = |text: &str| text.parse().unwrap();
        let tracked = Tracked {
            original: [end("10.1.2.3:40000"), end("100.64.0.2:443")],
            reply: [end("100.64.0.2:443"), end("100.64.0.1:1025")],
        };
        assert_eq!(parse(line), Some(tracked));
        assert_eq!(parse(&line.replace("ESTABLISHED", "CLOSE_WAIT")), Some(tracked));
        for no_connection in ["SYN_SENT", "SYN_RECV", "TIME_WAIT", "CLOSE"] {
            assert_eq!(parse(&line.replace("ESTABLISHED", no_connection)), None);
        }
        assert_eq!(parse(&line.replace(" tcp ", " udp ")), None);
        assert_eq!(parse(&line.replace("dport=1025", "dport=x")), None);
        assert_eq!(parse(&line[..80]), None);
        let line = "ipv6     10 tcp      6 100 ESTABLISHED src=fd7a::1 dst=fd7a::2 sport=1 dport=2 \
                    src=fd7a::2 dst=fd7a::1 sport=2 dport=1 [ASSURED] use=1";
        assert_eq!(parse(line).unwrap().original, [end("[fd7a::1]:1"), end("[fd7a::2]:2")]);
    }
}
