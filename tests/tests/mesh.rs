//! The lab itself, and `bulkhead tunnel` in it: without an agent, everybody reaches everybody.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bulkhead_testkit::lab::{self, EchoServers, Lab, Outcome, Probe, Protocol};
use socket2::{Domain, Socket, Type};

const LIMIT: Duration = Duration::from_millis(1500);

fn overlay(last: u8) -> [IpAddr; 2] {
    [[100, 64, 0, last].into(), [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(last)].into()]
}

#[test]
fn a_mesh_without_policy_connects_everybody() {
    let bulkhead = lab::bulkhead().unwrap();
    let mut lab = Lab::new("mesh").unwrap();
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        lab.add_host(name, &overlay(number)).unwrap();
    }
    lab.mesh(&bulkhead).unwrap();
    let servers: Vec<_> = lab
        .hosts()
        .iter()
        .map(|host| EchoServers::start(&host.namespace, &[8080], &[8081]).unwrap())
        .collect();
    for from in lab.hosts() {
        for to in lab.hosts().iter().filter(|to| to.name != from.name) {
            for &address in &to.overlay {
                let at = |port, protocol| Probe { to: SocketAddr::new(address, port), protocol };
                let probes = [
                    at(8080, Protocol::Tcp),
                    at(8081, Protocol::Udp),
                    // Nobody listens there, and the host says so.
                    at(8081, Protocol::Tcp),
                    at(8080, Protocol::Udp),
                ];
                let outcomes = lab::probe_all(&from.namespace, &probes, LIMIT).unwrap();
                use Outcome::{Refused, Replied};
                assert_eq!(outcomes, [Replied, Replied, Refused, Refused], "{} to {address}", from.name);
            }
        }
    }
    drop(servers);

    // An address that nobody has is silent: the packet has no peer to go to.
    let nobody = Probe { to: SocketAddr::from(([192, 0, 2, 250], 9)), protocol: Protocol::Tcp };
    let outcome = lab::probe(&lab.hosts()[0].namespace, nobody, Duration::from_millis(300)).unwrap();
    assert_eq!(outcome, Outcome::TimedOut);
}

#[test]
fn a_tunnel_takes_its_interface_with_it_however_it_ends() {
    let bulkhead = lab::bulkhead().unwrap();
    let mut lab = Lab::new("ends").unwrap();
    lab.add_host("a", &overlay(1)).unwrap();
    lab.add_host("b", &overlay(2)).unwrap();
    lab.mesh(&bulkhead).unwrap();
    let links = |lab: &Lab, name| lab.host(name).unwrap().namespace.ip("-brief link").unwrap();
    assert!(links(&lab, "a").contains(lab::INTERFACE) && links(&lab, "b").contains(lab::INTERFACE));
    let namespaces: Vec<_> = lab.hosts().iter().map(|host| host.namespace.path()).collect();

    let status = lab.host_mut("a").unwrap().tunnel().unwrap().stop(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(0), "SIGTERM is an orderly end");
    assert!(!links(&lab, "a").contains(lab::INTERFACE));

    let tunnel = lab.host_mut("b").unwrap().tunnel().unwrap();
    tunnel.signal(libc::SIGKILL);
    tunnel.wait(Duration::from_secs(5)).unwrap();
    assert!(!links(&lab, "b").contains(lab::INTERFACE));

    let directory = lab.directory().to_owned();
    drop(lab);
    assert!(
        !directory.exists() && namespaces.iter().all(|path| !path.exists()),
        "the lab leaves nothing behind"
    );
}

/// As the kernel's WireGuard: what is too long for some part of the way is to arrive in parts.
#[test]
fn the_tunnels_own_packets_may_be_fragmented() {
    const DONT_FRAGMENT: u8 = 0x40;
    let bulkhead = lab::bulkhead().unwrap();
    let mut lab = Lab::new("parts").unwrap();
    lab.add_host("a", &overlay(1)).unwrap();
    lab.add_host("b", &overlay(2)).unwrap();
    lab.mesh(&bulkhead).unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.host(name).unwrap());
    // It hears every UDP packet that its host gets, with its IP header.
    let ear = b
        .namespace
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::UDP)))
        .unwrap()
        .unwrap();
    ear.set_read_timeout(Some(LIMIT)).unwrap();
    let _servers = EchoServers::start(&b.namespace, &[8080], &[]).unwrap();
    let asked = Probe { to: SocketAddr::new(b.overlay[0], 8080), protocol: Protocol::Tcp };
    assert_eq!(lab::probe(&a.namespace, asked, LIMIT).unwrap(), Outcome::Replied);
    let (mut bytes, mut heard) = ([0; 2048], 0);
    while heard < 4 {
        let length = (&ear).read(&mut bytes).expect("the tunnel's packets");
        if length > 28 && u16::from_be_bytes([bytes[22], bytes[23]]) == lab::WIREGUARD_PORT {
            assert_eq!(bytes[6] & DONT_FRAGMENT, 0, "{:x?}", &bytes[..20]);
            heard += 1;
        }
    }
}

#[test]
fn a_lab_is_removed_by_a_panic_too() {
    let path = std::panic::catch_unwind(|| {
        let mut lab = Lab::new("panic").unwrap();
        let path = lab.add_host("a", &overlay(1)).unwrap().namespace.path();
        assert!(path.exists());
        std::panic::panic_any(path);
    })
    .unwrap_err();
    assert!(!path.downcast::<std::path::PathBuf>().unwrap().exists());
}
