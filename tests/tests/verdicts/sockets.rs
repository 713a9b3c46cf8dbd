//! Segments whose flow is missing, beside real sockets: programs run in a namespace whose loopback
//! device has both ends' addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bulkhead_abi::Direction;
use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::packets::build::{Ip, ethernet, ethertype, tcp};
use socket2::{Domain, Socket, Type};

use crate::hooks;
use crate::kernel::{Kernel, Program, ample};
use crate::world::{Place, WEB, program};

pub const HIGH: u16 = 50_000;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;

fn socket(at: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("the same ports again");
    // Closed by a reset: nothing remembers the connection.
    socket.set_linger(Some(Duration::ZERO)).expect("an option");
    socket.bind(&at.into()).expect("an address of the namespace");
    socket
}

/// The same as an IPv6 socket has it.
fn mapped(at: SocketAddr) -> SocketAddr {
    match at.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), at.port()),
        IpAddr::V6(_) => at,
    }
}

pub fn listener(at: SocketAddr) -> Socket {
    let socket = socket(at);
    socket.listen(1).expect("a listener");
    socket
}

/// A connection: who began it, and whom it is with.
fn connection(from: SocketAddr, to: &Socket) -> [Socket; 2] {
    let begun = socket(from);
    begun.connect(&to.local_addr().expect("its address")).expect("a connection");
    let (accepted, _) = to.accept().expect("a connection");
    accepted.set_linger(Some(Duration::ZERO)).expect("an option");
    [begun, accepted]
}

/// One hook, and what its packets are between.
struct Scene<'a> {
    kernel: &'a mut Kernel,
    program: Program,
    kind: Kind,
    near: SocketAddr,
    far: SocketAddr,
}

impl Scene<'_> {
    /// Runs a segment that could be a reply, without any flow.
    fn reason(&mut self, flags: u8) -> Reason {
        self.kernel.forget_flows();
        self.reason_again(flags)
    }

    fn reason_again(&mut self, flags: u8) -> Reason {
        let (from, to) = match self.program.direction() {
            Direction::Ingress => (self.far, self.near),
            Direction::Egress => (self.near, self.far),
        };
        let packet = Ip::new(from.ip(), to.ip(), 6, tcp((from.port(), to.port()), flags, &[])).bytes();
        let packet = match self.kind {
            Kind::Ethernet => ethernet(&[], ethertype(&packet), &packet),
            Kind::BareIp => packet,
        };
        let action = self.kernel.run(self.program, &packet);
        let reason = self.kernel.meta(self.program.direction()).outcome.reason;
        assert_eq!(action, reason.action());
        reason
    }

    fn play(&mut self) {
        let name = format!("{:?} {:?} {} {}", self.program, self.kind, self.near, self.far);
        let tracked = |scene: &Self| scene.kernel.flows().len();
        assert_eq!([ACK, FIN_ACK].map(|flags| self.reason(flags)), [Reason::NoFlow; 2], "{name}: no socket");
        assert_eq!(self.reason(RST), Reason::Reset, "{name}");
        assert_eq!(tracked(self), 0, "{name}: a reset leaves no trace");
        let here = listener(self.near);
        assert_eq!(self.reason(ACK), Reason::NoFlow, "{name}: a listener is no connection");
        assert_eq!(tracked(self), 0, "{name}");

        // Begun from outside, which a segment that comes in is then no reply to.
        let ends = connection(self.far, &here);
        let is_reply = self.program.direction() == Direction::Egress;
        let reason = if is_reply { Reason::Resumed } else { Reason::NoFlow };
        assert_eq!(self.reason(ACK), reason, "{name}: accepted");
        assert_eq!(tracked(self), usize::from(is_reply), "{name}");
        drop((ends, here));
        assert_eq!(self.reason(ACK), Reason::NoFlow, "{name}: it is gone");

        // Begun here.
        self.play_begun(self.near, self.far, &name);
        if self.near.is_ipv4() {
            // By a socket of the other family, whose addresses stand for IPv4's.
            self.play_begun(mapped(self.near), mapped(self.far), &format!("{name}, mapped"));
        }
    }

    fn play_begun(&mut self, near: SocketAddr, far: SocketAddr, name: &str) {
        let there = listener(far);
        let [begun, accepted] = connection(near, &there);
        drop(there);
        assert_eq!(self.reason(FIN_ACK), Reason::Resumed, "{name}");
        assert_eq!(self.reason(ACK), Reason::Resumed, "{name}");
        let tracked = |scene: &Self| scene.kernel.flows().len();
        assert_eq!((self.reason_again(ACK), tracked(self)), (Reason::Reply, 1), "{name}: tracked anew");
        accepted.shutdown(std::net::Shutdown::Write).expect("a FIN");
        assert_eq!(self.reason(ACK), Reason::Resumed, "{name}: half closed");
        drop((begun, accepted));
    }
}

/// Plays on every hook, by both families; returns the reasons.
pub fn play() -> Vec<Reason> {
    let namespace = of_both_ends("sockets");
    namespace.run(play_there).expect("the scenes");
    vec![Reason::Reset, Reason::Resumed]
}

/// A namespace whose loopback device has both ends' addresses.
pub fn of_both_ends(label: &str) -> Namespace {
    let namespace = Namespace::create(label).expect("a namespace");
    namespace.ip("link set lo up").expect("loopback");
    for v4 in [true, false] {
        let place = Place::new(Direction::Ingress, v4);
        for address in [place.from, place.to] {
            let bits = if v4 { "32" } else { "128 nodad" };
            let (length, more) = bits.split_once(' ').unwrap_or((bits, ""));
            namespace.ip(&format!("addr add {address}/{length} dev lo {more}")).expect("an address");
        }
    }
    namespace
}

fn play_there() {
    let compiled = program();
    for (program, kind) in hooks() {
        let mut kernel = Kernel::new(&compiled.tables, kind, false, ample());
        for v4 in [true, false] {
            let place = Place::new(program.direction(), v4);
            let (near, far): (IpAddr, IpAddr) = match program.direction() {
                Direction::Ingress => (place.to, place.from),
                Direction::Egress => (place.from, place.to),
            };
            // The service is where the conversation's responder is.
            let (near_port, far_port) = match program.direction() {
                Direction::Ingress => (HIGH, WEB),
                Direction::Egress => (WEB, HIGH),
            };
            let (near, far) = (SocketAddr::new(near, near_port), SocketAddr::new(far, far_port));
            Scene { kernel: &mut kernel, program, kind, near, far }.play();
        }
    }
}
