//! Addresses that come by DHCP and go, and what passes meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{ARRIVES, arrives, leaks, shown, udp, underlay_site};
use crate::site::Site;
use crate::site::account::reports;

/// A socket for DHCP on eth0 of a host, bound to the interface as clients and servers do it.
fn dhcp(site: &Site, host: &str, port: u16) -> UdpSocket {
    let socket = site.namespace(host).run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::from(([0, 0, 0, 0], port)))).unwrap();
        UdpSocket::from(socket)
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(slower(ARRIVES))).unwrap();
    socket
}

/// A DHCP message (RFC 2131 section 2) of a type: 1 discover, 2 offer, 3 request, 5 ack.
fn message(kind: u8, yours: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..4].copy_from_slice(&[if kind % 2 == 1 && kind != 5 { 1 } else { 2 }, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&0x0bad_cafe_u32.to_be_bytes());
    // The answer is to be broadcast: the client has no address yet.
    bytes[10] = 0x80;
    bytes[16..20].copy_from_slice(&yours.octets());
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend([53, 1, kind, 51, 4, 0, 0, 0, 60, 255]);
    bytes
}

/// Sends a message and hears it at the other end.
fn carried(from: &UdpSocket, to: &UdpSocket, at: IpAddr, kind: u8, yours: Ipv4Addr) -> bool {
    let port = to.local_addr().unwrap().port();
    from.send_to(&message(kind, yours), (at, port)).unwrap();
    let mut bytes = [0; 512];
    to.recv(&mut bytes).is_ok_and(|length| length > 242 && bytes[242] == kind)
}

/// A socket of the server's at one of its addresses.
fn asks(site: &Site, own: Ipv4Addr) -> UdpSocket {
    let socket = site.namespace("server").run(|| UdpSocket::bind((own, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(slower(ARRIVES))).unwrap();
    socket
}

#[test]
fn addresses_come_by_dhcp_and_change_under_traffic() {
    let everybody = IpAddr::from([255, 255, 255, 255]);
    let mut site = underlay_site("lease", "");
    let server = site.namespace("server");
    server.ip("addr flush dev eth0").unwrap();
    let (first, second) = (Ipv4Addr::new(192, 0, 2, 77), Ipv4Addr::new(192, 0, 2, 78));
    site.start();
    let status = site.status();
    assert_eq!(status["state"], "enforced", "{status}");
    let is_bare = |address: &String| address.parse::<IpAddr>().unwrap().is_ipv6();
    assert!(shown(&status).iter().all(is_bare), "{status}");

    // A lease, by broadcast, from an interface without an address.
    let (client, daemon) = (dhcp(&site, "server", 68), dhcp(&site, "dns", 67));
    assert!(carried(&client, &daemon, everybody, 1, Ipv4Addr::UNSPECIFIED), "discover");
    assert!(carried(&daemon, &client, everybody, 2, first), "offer");
    assert!(carried(&client, &daemon, everybody, 3, first), "request");
    assert!(carried(&daemon, &client, everybody, 5, first), "ack");
    let dns = site.underlay("dns");
    let serves = udp(&site, "dns", 53);
    site.namespace("server").ip(&format!("addr add {first}/24 dev eth0")).unwrap();
    let since = Instant::now();
    let holds = |status: &serde_json::Value, own: Ipv4Addr| {
        let warnings = status["agent"]["warnings"].to_string();
        shown(status).contains(&own.to_string()) && !warnings.contains("does not know")
    };
    site.wait_for("the lease's address is enforced", |status| holds(status, first));
    println!("enforced {:?} after it was there", since.elapsed());
    let asking = asks(&site, first);
    assert!(arrives(&asking, &serves, dns) && arrives(&serves, &asking, first.into()), "asked and answered");
    // Renewal: by unicast, both ways.
    assert!(carried(&client, &daemon, dns, 3, first), "renewal");
    assert!(carried(&daemon, &client, first.into(), 5, first), "its ack");
    assert!(!leaks(&serves, &udp(&site, "server", 5353), first.into()), "what nobody asked for");

    // Another lease while questions are asked by whatever address there is: all but those in between are answered.
    let over = AtomicBool::new(false);
    let before = site.status()["agent"]["generation"].as_u64().unwrap();
    let gap = std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let mut bytes = [0; 16];
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, from)) = serves.recv_from(&mut bytes) {
                    let _ = serves.send_to(&bytes[..length], from);
                }
            }
        });
        site.namespace("server").ip(&format!("addr add {second}/24 dev eth0")).unwrap();
        site.namespace("server").ip(&format!("addr del {first}/24 dev eth0")).unwrap();
        let changed = Instant::now();
        let gap = loop {
            // The kernel makes the second one the first, or takes it along: then it is added again.
            let _ = site.namespace("server").ip(&format!("addr add {second}/24 dev eth0"));
            let asking = asks(&site, second);
            asking.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let _ = asking.send_to(b"ping", (dns, 53));
            if asking.recv(&mut [0; 16]).is_ok() {
                break changed.elapsed();
            }
            assert!(changed.elapsed() < slower(Duration::from_secs(20)), "no answer");
        };
        over.store(true, Ordering::Relaxed);
        let _ = answering.join();
        gap
    });
    println!("answers by the new address {gap:?} after the change");
    let status = site.wait_for("the new address is enforced", |status| {
        holds(status, second) && !shown(status).contains(&first.to_string())
    });
    assert!(status["agent"]["generation"].as_u64().unwrap() > before, "{status}");
    let journal = site.journal_file();
    site.wait_for("it is on record", |_| {
        let found = reports(&journal).into_iter().find(|event| event["action"] == "readdress");
        found.is_some_and(|event| event["outcome"] == "done" && event["by"]["via"] == "agent")
    });

    // The old one is nobody's now, even where it is still used.
    site.namespace("server").ip(&format!("addr add {first}/32 dev lo")).unwrap();
    let (asking, old) = (asks(&site, first), udp(&site, "dns", 123));
    assert!(!leaks(&asking, &old, dns), "from an address that is gone");
}
