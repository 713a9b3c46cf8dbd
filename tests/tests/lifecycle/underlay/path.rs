//! Path MTU discovery: a router that nobody named says that a packet is too long.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use super::underlay_site;

/// What the kernel takes for the MTU of the path of a connected socket, bytes.
fn path_mtu(socket: &UdpSocket) -> libc::c_int {
    let (mut mtu, mut length) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: room for an integer, and its size.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    mtu
}

#[test]
fn a_router_on_the_way_lowers_the_mtu_of_the_path() {
    let far = "outbound = [{ proto = \"udp\", to = [\"198.51.100.53\"], ports = [53] }]\n";
    let mut site = underlay_site("path", "");
    let config = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    let from = config.find("outbound = [").unwrap();
    let to = config[from..].find("\n]\n").unwrap() + from + 3;
    site.write("agent.toml", &format!("{}{far}{}", &config[..from], &config[to..]));
    // `dns` is the router, `other` lies behind it on a link of 1300 bytes.
    let (router, other, server) = (site.namespace("dns"), site.namespace("other"), site.namespace("server"));
    let name = other.name();
    router.ip(&format!("link add far type veth peer name far netns {name}")).unwrap();
    for (namespace, address) in [(router, "198.51.100.1"), (other, "198.51.100.53")] {
        namespace.ip(&format!("addr add {address}/24 dev far")).unwrap();
        namespace.ip("link set far mtu 1300 up").unwrap();
    }
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();
    server.ip(&format!("route add 198.51.100.0/24 via {}", site.underlay("dns"))).unwrap();
    other.ip(&format!("route add {}/32 via 198.51.100.1", site.underlay("server"))).unwrap();
    let far: IpAddr = [198, 51, 100, 53].into();
    let serves = site.namespace("other").run(|| UdpSocket::bind((far, 53))).unwrap().unwrap();
    serves.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    site.start();
    let asks = site.namespace("server").run(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap().unwrap();
    asks.connect(SocketAddr::new(far, 53)).unwrap();
    assert_eq!(path_mtu(&asks), 1500);
    let deadline = Instant::now() + slower(Duration::from_secs(5));
    while path_mtu(&asks) != 1300 {
        assert!(Instant::now() < deadline, "{}", site.status());
        // With DF, as UDP has it by default.
        let _ = asks.send(&[0; 1400]);
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut bytes = [0; 2048];
    // What fits arrives. The router's answers are errors of the calls that come after them.
    let arrives = (0..20).any(|_| {
        let _ = asks.send(&[0; 1200]);
        serves.recv(&mut bytes).is_ok_and(|length| length == 1200)
    });
    assert!(arrives);
}
