//! The venues section.

use ipnet::IpNet;

use super::definitions::look_alike;
use super::fields::{complain, required};
use super::rules::{expires, narrowing, rate, selector};
use super::selector::{Malformed, prefix};
use super::{Lane, Rates, Venue, ports};
use crate::Dialect;
use crate::frontend::json::{Object, Reader, Value};
use crate::frontend::source::{Span, Spanned};
use crate::interval::Intervals;
use crate::service::UDP;

/// Venues and boundaries of one policy; each is compared with each.
pub(super) const MOST: usize = 500;

/// The venues by name.
pub(super) fn venues(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Venue> {
    let Some(object) = reader.object(value, "venues") else { return Vec::new() };
    let mut all = Vec::new();
    if object.members.len() > MOST {
        reader.error(object.span, format!("more than {MOST} venues"));
        return all;
    }
    for (name, property) in reader.entries(object) {
        if name
            .strip_prefix("venue:")
            .is_none_or(|bare| bare.is_empty() || bare.contains(char::is_whitespace))
        {
            let problem =
                Malformed::new(format!("\"{name}\" is no name for a venue")).help("write venue:NAME");
            complain(reader, property.span, problem);
        }
        look_alike(reader, name, property.span);
        if let Some(object) = reader.object(&property.value, &format!("\"{name}\"")) {
            all.push(venue(reader, Spanned::new(name.to_string(), property.span), object));
        }
    }
    all
}

fn venue(reader: &mut Reader<'_>, name: Spanned<String>, object: &Object<'_>) -> Venue {
    let mut venue = Venue { name, addresses: Vec::new(), feeds: Vec::new(), sessions: Vec::new() };
    let mut addresses = None;
    for (field, property) in reader.fields(object, "a venue", &["addresses", "feeds", "sessions"]) {
        let value = &property.value;
        match field {
            "addresses" => addresses = prefixes(reader, value, field),
            "feeds" => venue.feeds = lanes(reader, value, Kind::Feed),
            _ => venue.sessions = lanes(reader, value, Kind::Session),
        }
    }
    required(reader, object, addresses.as_ref(), "addresses", &format!("\"{}\"", venue.name.value));
    venue.addresses = addresses.unwrap_or_default();
    if venue.addresses.is_empty() && object.get("addresses").is_some() {
        reader.error(venue.name.span, format!("\"{}\" has no address", venue.name.value));
    }
    for net in venue.addresses.iter().filter(|net| net.value.prefix_len() == 0) {
        let problem = Malformed::new(format!("\"{}\" is every address, and no venue", net.value))
            .help("name the prefixes that the exchange gave you");
        complain(reader, net.span, problem);
    }
    venue
}

fn prefixes(reader: &mut Reader<'_>, value: &Value<'_>, what: &str) -> Option<Vec<Spanned<IpNet>>> {
    let mut all = Vec::new();
    for text in reader.strings(value, what)? {
        match prefix(&text.value) {
            Ok(Some(net)) => all.push(Spanned::new(net, text.span)),
            Ok(None) => {
                let problem = Malformed::new(format!("\"{}\" is no address and no prefix", text.value))
                    .help("write, for instance, 198.51.100.10 or 198.51.100.0/24");
                complain(reader, text.span, problem);
            }
            Err(problem) => complain(reader, text.span, problem),
        }
    }
    Some(all)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Feed,
    Session,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Self::Feed => "the feed",
            Self::Session => "the session",
        }
    }
}

fn lanes(reader: &mut Reader<'_>, value: &Value<'_>, kind: Kind) -> Vec<Lane> {
    let section = if kind == Kind::Feed { "feeds" } else { "sessions" };
    super::rules::list(reader, value, section, |reader, object| lane(reader, object, kind))
        .unwrap_or_default()
}

/// One lane. What cannot be read is an error, so that no lane is wider than it was meant.
fn lane(reader: &mut Reader<'_>, object: &Object<'_>, kind: Kind) -> Option<Lane> {
    const KNOWN: [&str; 10] = [
        "name",
        "from",
        "to",
        "proto",
        "ports",
        "expires",
        "maxPacketsPerSecond",
        "maxNewPerSecond",
        "groups",
        "oneWay",
    ];
    let known = if kind == Kind::Feed { &KNOWN[..] } else { &KNOWN[..8] };
    let (theirs_name, ours_name) = if kind == Kind::Feed { ("from", "to") } else { ("to", "from") };
    let (mut name, mut protocol, mut text, mut until) = (None, None, None, None);
    let (mut theirs, mut ours, mut groups) = (None, None, Vec::new());
    let mut one_way = None;
    let mut rates = Rates::default();
    for (field, property) in
        reader.fields(object, if kind == Kind::Feed { "a feed" } else { "a session" }, known)
    {
        let value = &property.value;
        match field {
            "name" => name = reader.string(value, field),
            "proto" => protocol = reader.string(value, field),
            "ports" => text = reader.string(value, field),
            "expires" => until = expires(reader, value),
            "maxPacketsPerSecond" => rates.packets = rate(reader, value, field),
            "maxNewPerSecond" => rates.new_flows = rate(reader, value, field),
            "groups" => groups = prefixes(reader, value, field).unwrap_or_default(),
            "oneWay" => one_way = reader.boolean(value, field).map(|on| Spanned::new(on, property.span)),
            field if field == theirs_name => theirs = prefixes(reader, value, field),
            field => {
                let mut words = Vec::new();
                ours = narrowing(reader.strings(value, field), &mut words).then_some(words);
            }
        }
    }
    let theirs = required(reader, object, theirs, theirs_name, kind.what());
    let ours = required(reader, object, ours, ours_name, kind.what());
    let service = service(reader, object, (protocol, text), !groups.is_empty(), kind);
    let ours = ours.unwrap_or_default();
    let ours =
        ours.iter().filter_map(|word| selector(reader, &word.value, word.span, Dialect::Bulkhead)).collect();
    let theirs = theirs.unwrap_or_default();
    if theirs.is_empty() && object.get(theirs_name).is_some() {
        reader.error(object.span, format!("{} names none of the venue's addresses", kind.what()));
    }
    groups.iter().for_each(|group| multicast(reader, group));
    let service = service?;
    if let Some(flag) = one_way.as_ref().filter(|flag| flag.value && service.0 != UDP) {
        let problem = Malformed::new("only a UDP feed can be one-way")
            .help("other protocols need their replies: leave oneWay out");
        complain(reader, flag.span, problem);
    }
    let multicast = !groups.is_empty();
    if let Some(flag) = one_way.as_ref().filter(|flag| !flag.value && multicast) {
        reader.error(flag.span, "a multicast feed is one-way: nobody replies to a group");
    }
    let one_way = multicast || one_way.is_some_and(|flag| flag.value);
    Some(Lane { span: object.span, name, theirs, ours, groups, service, one_way, expires: until, rates })
}

/// A lane says what passes: protocol and ports are no defaults, but for UDP to groups.
fn service(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    (protocol, text): (Option<Spanned<String>>, Option<Spanned<String>>),
    multicast: bool,
    kind: Kind,
) -> Option<(u8, Intervals<u16>)> {
    let mut problems: Vec<(Span, Malformed)> = Vec::new();
    let number = match protocol.as_ref().map(|text| (text.span, ports::protocol(&text.value, true))) {
        Some((_, Ok(number))) if number == UDP || !multicast => Some(number),
        Some((span, Ok(_))) => {
            problems.push((span, Malformed::new("a multicast feed is UDP").help("write \"proto\": \"udp\"")));
            None
        }
        Some((span, Err(problem))) => {
            problems.push((span, problem));
            None
        }
        None if multicast && object.get("proto").is_none() => Some(UDP),
        None => {
            required(reader, object, None::<()>, "proto", kind.what());
            None
        }
    };
    let portless = number.is_some_and(|number| !crate::service::has_ports(number));
    let set = match text.as_ref().map(|text| (text.span, ports::parse(&text.value, Dialect::Bulkhead))) {
        Some((span, Ok(set))) => match ports::portless(number, &set) {
            Ok(()) => Some(set),
            Err(problem) => {
                problems.push((span, problem));
                None
            }
        },
        Some((span, Err(problem))) => {
            problems.push((span, problem));
            None
        }
        None if portless && object.get("ports").is_none() => Some(Intervals::all()),
        None => {
            required(reader, object, None::<()>, "ports", kind.what());
            None
        }
    };
    problems.into_iter().for_each(|(span, problem)| complain(reader, span, problem));
    Some((number?, set?))
}

/// Groups are multicast (RFC 5771, RFC 4291 section 2.7) and none that every host hears: local
/// control traffic is the link's own.
fn multicast(reader: &mut Reader<'_>, group: &Spanned<IpNet>) {
    let scope = |address: std::net::Ipv6Addr| address.segments()[0] & 0xf;
    let problem = match &group.value {
        IpNet::V4(net) if net.prefix_len() < 4 || !net.network().is_multicast() => "no multicast prefix",
        // 224.0.0.0/24: whatever holds its first address holds it.
        IpNet::V4(net) if net.network().to_bits() >> 8 == 0xe0_0000 => "link-local multicast",
        IpNet::V6(net) if net.prefix_len() < 8 || !net.network().is_multicast() => "no multicast prefix",
        IpNet::V6(net) if net.prefix_len() < 16 || scope(net.network()) <= 2 => "link-local multicast",
        _ => return,
    };
    let problem = Malformed::new(format!("\"{}\" is {problem}", group.value))
        .help("groups are prefixes of 224.0.0.0/4 or ff00::/8, without 224.0.0.0/24 and ff02::/16");
    complain(reader, group.span, problem);
}
