//! What a filter adds to a packet that it lets through, on a veth whose packets are the stack's
//! (skbs): Bulkhead at TCX, nftables' verdict map, linear nftables rules, iptables with ipset.
//!
//! Behind the filter every packet meets the same end: a chain at IP's prerouting that counts and
//! drops it. So the count at the end proves that it came to the filter and through it, since each
//! filter drops what it does not know.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::Result;
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::measure::bpf::Place;
use bulkhead_testkit::measure::{Addresses, Driver, Hook, Order, Write};

use super::Effort;
use super::decision::USUAL;
use crate::figure::{Figure, Report, Unit};
use crate::stage::{ACK, Carries, From, Stage, Traffic, stay_on};
use crate::wire::{RECEIVER, Softirq, Wire, send};
use crate::world::{Family, Rules, SERVICE, Texts};

/// The CPU that sends and receives.
const CPU: usize = 1;
/// Rounds that compare Bulkhead with the verdict map: never fewer.
const PAIRS: usize = 15;

/// Filters, in the order of their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    None,
    /// Bulkhead at TCX with so many rules.
    Bulkhead(u32),
    /// nftables at the device's ingress, a verdict map on address . port.
    VerdictMap,
    /// nftables at the device's ingress, so many rules, of which the last one matches.
    Linear(u32),
    /// iptables at raw PREROUTING with an ipset of address and port.
    IpSet,
}

const FILTERS: [Filter; 8] = [
    Filter::None,
    Filter::Bulkhead(10),
    Filter::VerdictMap,
    Filter::Bulkhead(1000),
    Filter::Bulkhead(10_000),
    Filter::Linear(100),
    Filter::Linear(1000),
    Filter::IpSet,
];

impl Filter {
    fn name(self) -> String {
        match self {
            Self::None => "none".into(),
            Self::Bulkhead(rules) => format!("bulkhead-{rules}"),
            Self::VerdictMap => "nft-map".into(),
            Self::Linear(rules) => format!("nft-{rules}"),
            Self::IpSet => "ipset".into(),
        }
    }

    fn title(self) -> String {
        match self {
            Self::None => "no filter: the way of the packet".into(),
            Self::Bulkhead(rules) => format!("Bulkhead at TCX, {rules} rules"),
            Self::VerdictMap => "nftables, a verdict map on address . port".into(),
            Self::Linear(rules) => format!("nftables, {rules} rules, the last of which matches"),
            Self::IpSet => "iptables with ipset, address and port".into(),
        }
    }

    /// Packets of one round: a slow filter takes as long with fewer.
    fn packets(self, usual: u32) -> u32 {
        match self {
            Self::Linear(rules) => usual / (1 + rules / 50),
            _ => usual,
        }
    }

    /// The command that must be there.
    const fn needs(self) -> Option<&'static str> {
        match self {
            Self::IpSet => Some("/usr/sbin/ipset"),
            Self::VerdictMap | Self::Linear(_) => Some("/usr/sbin/nft"),
            Self::None | Self::Bulkhead(_) => None,
        }
    }
}

struct Contender {
    filter: Filter,
    wire: Wire,
    driver: Driver,
    times: Vec<f64>,
    sent: u64,
    _program: Option<(Stage, OwnedFd)>,
}

impl Contender {
    fn new(filter: Filter, sender: &Namespace, traffic: &Traffic, frame: &[u8]) -> Result<Self> {
        let wire = Wire::new(sender, &format!("fw-{}", filter.name()))?;
        wire.as_packets()?;
        wire.count_at_the_end()?;
        let program = install(filter, &wire, traffic)?;
        let write = Write { checksum: Some(14), ..traffic.write(From::Peer, Order::Random) };
        let driver = wire.driver(write, frame)?;
        Ok(Self { filter, wire, driver, times: Vec::new(), sent: 0, _program: program })
    }
}

fn install(filter: Filter, wire: &Wire, traffic: &Traffic) -> Result<Option<(Stage, OwnedFd)>> {
    let addresses = &traffic.addresses;
    let elements = |separator: &str, before: &str, after: &str| {
        let mut text = String::new();
        for index in 0..addresses.count {
            let _ = write!(text, "{before}{}{separator}{after}", addresses.v4(index));
        }
        text
    };
    match filter {
        Filter::None => {}
        Filter::Bulkhead(rules) => {
            let tables = Texts::new(Family::V4, addresses, Rules::Many(rules)).compile()?.tables;
            let mut stage = Stage::for_frames(&tables, 0)?;
            let link = wire.attach(Place::TcxIngress, stage.ingress(Hook::Tc)?.as_fd())?;
            return Ok(Some((stage, link)));
        }
        Filter::VerdictMap => {
            let elements = elements(&format!(" . {SERVICE}"), "", " : accept, ");
            let text = format!(
                "table netdev filter {{
                    map verdicts {{
                        type ipv4_addr . inet_service : verdict
                        elements = {{ {elements} }}
                    }}
                    chain ingress {{
                        type filter hook ingress device {RECEIVER} priority 0; policy drop;
                        ip saddr . tcp dport vmap @verdicts
                    }}
                }}
                "
            );
            wire.command(&["nft", "-f", "-"], &text)?;
        }
        Filter::Linear(rules) => {
            let mut list = String::new();
            for rule in 1..rules {
                let _ = writeln!(list, "ip saddr 192.0.2.{} tcp dport {} accept", rule % 256, 10_000 + rule);
            }
            let text = format!(
                "table netdev filter {{
                    chain ingress {{
                        type filter hook ingress device {RECEIVER} priority 0; policy drop;
                        {list}
                        ip saddr 100.64.0.0/10 tcp dport {SERVICE} accept
                    }}
                }}
                "
            );
            wire.command(&["nft", "-f", "-"], &text)?;
        }
        Filter::IpSet => {
            let elements = elements(&format!(",tcp:{SERVICE}"), "add known ", "\n");
            let create = "create known hash:ip,port hashsize 131072 maxelem 262144\n";
            wire.command(&["ipset", "restore"], &format!("{create}{elements}"))?;
            let append = "iptables -t raw -A PREROUTING -m set --match-set known src,dst -j ACCEPT && iptables -t raw -P PREROUTING DROP";
            wire.command(&["sh", "-c", append], "")?;
        }
    }
    Ok(None)
}

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    let addresses = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), USUAL);
    let traffic = Traffic { hook: Hook::Xdp, family: Family::V4, addresses };
    let frame = traffic.packet(From::Peer, Carries::Tcp(ACK), (50_000, SERVICE));
    let sender = Namespace::create("fw-tx")?;
    let mut contenders = Vec::new();
    for filter in FILTERS {
        if let Some(command) = filter.needs().filter(|command| !Path::new(command).exists()) {
            report.miss(format!("forward/{}", filter.name()), format!("{command} is not there"));
            continue;
        }
        contenders.push(Contender::new(filter, &sender, &traffic, &frame)?);
    }
    let (rounds, usual) = effort.pick((PAIRS, 100_000), (41, 1_000_000));
    let measured = sender.run(|| -> Result<()> {
        stay_on(CPU)?;
        let softirq = Softirq::of(CPU)?;
        for round in 0..=rounds {
            for contender in &mut contenders {
                let count = contender.filter.packets(usual);
                let time = send(&contender.driver, &frame, count, &softirq)?;
                contender.sent += u64::from(count);
                // The first round warms up.
                if round > 0 {
                    contender.times.push(time);
                }
            }
        }
        Ok(())
    })?;
    measured?;
    conclude(contenders, report)
}

fn conclude(contenders: Vec<Contender>, report: &mut Report) -> Result<()> {
    let base = contenders[0].times.clone();
    for contender in contenders {
        let through = contender.wire.through()?;
        let (name, title) = (contender.filter.name(), contender.filter.title());
        let figure =
            Figure::new(format!("forward/{name}"), &title, Unit::Nanoseconds, contender.times.clone())
                .proved("the chain at the end", contender.sent, through);
        let unreliable = figure.unreliable.clone();
        report.add(figure, &["forward/none"]);
        if contender.filter != Filter::None {
            let added = contender.times.iter().zip(&base).map(|(with, without)| with - without).collect();
            let title = format!("added by {title}");
            let mut figure = Figure::new(format!("forward/added/{name}"), title, Unit::Nanoseconds, added);
            if let Some(why) = unreliable {
                figure.doubt(why);
            }
            report.add(figure, &["forward/added/nft-map", "forward/added/bulkhead-10"]);
        }
    }
    Ok(())
}
