use super::{Headers, Role, parse};
use crate::{Packet, Reason};

fn headers_of(bytes: &[u8], is_ethernet: bool) -> Headers {
    let mut headers = Headers::UNKNOWN;
    parse(&Packet::new(bytes), is_ethernet, &mut headers);
    headers
}

fn fault(bytes: &[u8]) -> Option<Reason> {
    let headers = headers_of(bytes, false);
    (headers.role == Role::Invalid).then_some(headers.fault)
}

/// IPv4 to port 80 with `options`, and `flags` in the TCP header.
fn tcp4(options: &[u8], flags: u8) -> Vec<u8> {
    let header = 20 + options.len();
    let total = header + 20;
    let mut packet = vec![0; total];
    packet[0] = 0x40 | (header / 4) as u8;
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
    packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
    packet[20..header].copy_from_slice(options);
    packet[header..header + 4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    packet[header + 12] = 0x50;
    packet[header + 13] = flags;
    packet
}

/// IPv6 with extension headers `next`, each (number, bytes), and UDP to port 53.
fn udp6(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).collect();
    numbers.push(17);
    for (index, (_, bytes)) in extensions.iter().enumerate() {
        let mut bytes = bytes.clone();
        bytes[0] = numbers[index + 1];
        body.extend(bytes);
    }
    body.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let mut packet = vec![0x60, 0, 0, 0, 0, body.len() as u8, numbers[0], 64];
    packet.extend([0xfd; 16]);
    packet.extend([0xfe; 16]);
    packet.extend(body);
    packet
}

#[test]
fn every_truncation_is_a_fault() {
    for whole in [tcp4(&[], 2), tcp4(&[1, 1, 1, 0], 2), udp6(&[(0, vec![0; 8]), (60, vec![0; 8])])] {
        assert_eq!(fault(&whole), None);
        for length in 0..whole.len() {
            assert!(fault(&whole[..length]).is_some(), "{length} of {}", whole.len());
        }
    }
}

#[test]
fn ports_are_behind_options_and_extensions() {
    let headers = headers_of(&tcp4(&[7, 7, 4, 0, 0, 0, 0, 0], 2), false);
    assert_eq!((headers.role, headers.source_port, headers.destination_port), (Role::Open, 40_000, 80));
    let headers = headers_of(&udp6(&[(0, vec![0; 8]), (43, vec![0; 8]), (60, vec![0; 8])]), false);
    assert_eq!((headers.role, headers.protocol, headers.destination_port), (Role::Datagram, 17, 53));
}

#[test]
fn options_are_whole_and_do_not_route() {
    for (options, reason) in [
        ([131, 3, 4, 0], Reason::SourceRoute),
        ([137, 3, 4, 0], Reason::SourceRoute),
        ([1, 1, 131, 0], Reason::SourceRoute),
        ([7, 0, 0, 0], Reason::IpOption),
        ([7, 1, 0, 0], Reason::IpOption),
        ([7, 5, 0, 0], Reason::IpOption),
        ([1, 1, 1, 7], Reason::IpOption),
    ] {
        assert_eq!(fault(&tcp4(&options, 2)), Some(reason), "{options:?}");
    }
}

#[test]
fn flags_are_those_that_stacks_send() {
    for flags in 0..=0xff_u8 {
        let core = flags & 0x17;
        let accepted = [0x02, 0x12, 0x10, 0x11, 0x04, 0x14].contains(&core);
        assert_eq!(fault(&tcp4(&[], flags)), (!accepted).then_some(Reason::TcpFlags), "{flags:#x}");
    }
}

#[test]
fn extension_headers_are_walked_within_bounds() {
    let routing = |left: u8| (43, vec![0, 0, 0, left, 0, 0, 0, 0]);
    let options = || (60, vec![0; 8]);
    assert_eq!(fault(&udp6(&[routing(1)])), Some(Reason::SourceRoute));
    assert_eq!(fault(&udp6(&[options(), (0, vec![0; 8])])), Some(Reason::ExtensionHeader));
    assert_eq!(fault(&udp6(&vec![options(); 8])), None);
    assert_eq!(fault(&udp6(&vec![options(); 9])), Some(Reason::ExtensionDepth));
    let mut too_long = options();
    too_long.1[1] = 200;
    assert_eq!(fault(&udp6(&[too_long])), Some(Reason::ExtensionHeader));
    let mut no_next = udp6(&[options()]);
    no_next[40] = 59;
    assert_eq!(fault(&no_next), Some(Reason::NoNextHeader));
}

#[test]
fn mapped_addresses_are_refused() {
    let mut packet = udp6(&[(60, vec![0; 8])]);
    packet[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    assert_eq!(fault(&packet), Some(Reason::MappedAddress));
}

#[test]
fn fragments_tell_where_they_stand() {
    let mut first = tcp4(&[], 2);
    first[6] = 0x20;
    assert_eq!(fault(&first), Some(Reason::FragmentInvalid), "20 bytes are no multiple of 8");
    first.extend([0; 4]);
    first[3] += 4;
    let headers = headers_of(&first, false);
    assert_eq!((headers.role, headers.first_fragment, headers.fragment_end), (Role::Open, 1, 24));
    let mut later = first.clone();
    later[6..8].copy_from_slice(&[0, 3]);
    let headers = headers_of(&later, false);
    assert_eq!((headers.role, headers.fragment_offset, headers.fragment_end), (Role::LaterFragment, 24, 48));
    let mut tiny = first[..28].to_vec();
    tiny[3] = 28;
    assert_eq!(fault(&tiny), Some(Reason::FragmentTiny));
    let mut beyond = first;
    beyond[6..8].copy_from_slice(&[0x1f, 0xff]);
    assert_eq!(fault(&beyond), Some(Reason::FragmentInvalid));
}

#[test]
fn frames_have_at_most_two_tags() {
    let frame = |tags: usize| {
        let mut frame = vec![2; 12];
        (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 5]));
        frame.extend([8, 0]);
        frame.extend(tcp4(&[], 2));
        frame
    };
    for tags in 0..=2 {
        assert_eq!(headers_of(&frame(tags), true).destination_port, 80, "{tags} tags");
    }
    assert_eq!(headers_of(&frame(3), true).fault, Reason::VlanDepth);
    let mut wrong = frame(0);
    wrong[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(headers_of(&wrong, true).fault, Reason::IpVersion);
}
