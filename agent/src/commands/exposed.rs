//! `bulkhead exposed`: which sockets take packets of others, and who reaches them.

use bulkhead_api::text::plain;

use crate::exit::Answer;
use crate::exposed::{Listed, Reach, Report, Way, look};
use crate::global::Global;
use crate::paths::Paths;

/// List sockets that listen beside the overlay, and who reaches them.
///
/// TCP sockets that listen, UDP sockets that take packets of anybody, and raw ones, with process and systemd unit. By
/// each interface: nobody, those whom the enforced policy lets in, or anyone, where Bulkhead drops nothing. Ends with
/// 1 if anyone reaches a socket, with 0 if not.
#[derive(Debug, clap::Args)]
pub struct Exposed {
    /// List sockets on loopback and overlay addresses, too.
    #[arg(long)]
    all: bool,
}

impl Exposed {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let report = look(&global.instance, &Paths::of(&global.instance)?, self.all)?;
        if global.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", text(&report));
        }
        Ok(if report.exposed() == 0 { Answer::Yes } else { Answer::No })
    }
}

const HEAD: [&str; 7] = ["exposed", "protocol", "address", "port", "process", "unit", "reached by"];

/// The answer for people: columns as wide as what is in them.
fn text(report: &Report) -> String {
    let rows: Vec<[String; 7]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(report.sockets.iter().map(row)).collect();
    let widths = [0, 1, 2, 3, 4, 5]
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for row in rows.iter().filter(|_| !report.sockets.is_empty()) {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("{cell:<width$}  ");
        }
        text += &format!("{}\n", row[6]);
    }
    let count = |number: usize| format!("{number} {}", if number == 1 { "socket" } else { "sockets" });
    let left_out = |number: usize, at: &str| {
        (number != 0).then(|| format!("{} on {at} not listed; `--all` lists them\n", count(number)))
    };
    text.extend(left_out(report.on_loopback, "loopback addresses"));
    text.extend(left_out(report.on_overlay, "overlay addresses"));
    text.extend(report.notes.iter().map(|note| format!("note: {}\n", plain(note))));
    text += &match report.exposed() {
        0 => "nothing is exposed\n".to_owned(),
        exposed => format!(
            "{} exposed; next: bind to a loopback or overlay address, or name the interface in agent.toml, an \
             uplink with role = \"underlay\"\n",
            count(exposed)
        ),
    };
    text
}

fn row(socket: &Listed) -> [String; 7] {
    let none = || "-".to_owned();
    let address = if socket.dual_stack { "*".to_owned() } else { socket.address.to_string() };
    let at = socket.device.as_ref().map(|device| format!("%{device}")).unwrap_or_default();
    let process = socket.process.as_ref().map(|owner| format!("{} ({})", owner.name, owner.pid));
    [
        if socket.exposed { "yes" } else { "no" }.to_owned(),
        socket.protocol.to_owned(),
        plain(&format!("{address}{at}")).into_owned(),
        socket.port.to_string(),
        process.map_or_else(none, |process| plain(&process).into_owned()),
        socket.unit.as_ref().map_or_else(none, |unit| plain(unit).into_owned()),
        plain(&reached_by(&socket.ways)).into_owned(),
    ]
}

/// Who, by which interfaces.
fn reached_by(ways: &[Way]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for way in ways {
        let who = who(&way.reach);
        match groups.iter_mut().find(|(known, _)| *known == who) {
            Some((_, interfaces)) => interfaces.push(&way.interface),
            None => groups.push((who, vec![&way.interface])),
        }
    }
    let groups: Vec<String> =
        groups.into_iter().map(|(who, interfaces)| format!("{}: {who}", interfaces.join(", "))).collect();
    if groups.is_empty() { "nobody".to_owned() } else { groups.join("; ") }
}

/// Names that are written out; more are counted.
const NAMED: usize = 3;

fn who(reach: &Reach) -> String {
    let (nodes, others) = match reach {
        Reach::Anyone { why } => return format!("anyone ({why})"),
        Reach::Nobody { why } => return format!("nobody ({why})"),
        Reach::Some { nodes, others } => (nodes, others),
    };
    let counted = |[one, many]: [&str; 2], names: &[String]| {
        let kind = if names.len() == 1 { one } else { many };
        let few = if names.len() <= NAMED { format!(" ({})", names.join(", ")) } else { String::new() };
        (!names.is_empty()).then(|| format!("{} {kind}{few}", names.len()))
    };
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    let both = [counted(["node", "nodes"], nodes), counted(["prefix", "prefixes"], &others)];
    both.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{HEAD, reached_by, text, who};
    use crate::exposed::{Listed, Reach, Report, Way};
    use crate::owners::Owner;

    fn way(interface: &str, reach: Reach) -> Way {
        Way { interface: interface.to_owned(), enforced: true, reach }
    }

    fn some(nodes: &[&str], others: &[&str]) -> Reach {
        Reach::Some {
            nodes: nodes.iter().map(ToString::to_string).collect(),
            others: others.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn listed(port: u16, exposed: bool, name: &str) -> Listed {
        Listed {
            protocol: "tcp",
            address: "::".parse().unwrap(),
            dual_stack: exposed,
            port,
            device: None,
            process: Some(Owner { pid: 7, name: name.to_owned() }),
            unit: None,
            exposed,
            ways: vec![way("wg0", some(&["a"], &[]))],
        }
    }

    #[test]
    fn who_is_counted_and_few_are_named() {
        assert_eq!(who(&some(&["a"], &[])), "1 node (a)");
        assert_eq!(who(&some(&["a", "b", "c", "d"], &["10.0.0.0/8"])), "4 nodes, 1 prefix (10.0.0.0/8)");
        let two = some(&[], &["10.0.0.0/8", "::/1"]);
        assert_eq!(who(&two), "2 prefixes (10.0.0.0/8, ::/1)");
        let open = || Reach::Anyone { why: "not managed".to_owned() };
        let ways = [way("eth0", open()), way("eth1", open()), way("wg0", some(&["a"], &[]))];
        assert_eq!(reached_by(&ways), "eth0, eth1: anyone (not managed); wg0: 1 node (a)");
        assert_eq!(reached_by(&[]), "nobody");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let sockets = vec![listed(22, true, "sshd"), listed(65535, false, "a\u{1b}[2Jlong-name")];
        let report = Report { sockets, on_loopback: 1, on_overlay: 2, notes: vec!["x".to_owned()] };
        let text = text(&report);
        let lines: Vec<&str> = text.lines().collect();
        for (head, cells) in HEAD.iter().zip([
            ["yes", "no"],
            ["tcp", "tcp"],
            ["*", "::"],
            ["22", "65535"],
            ["sshd (7)", r"a\u{1b}[2Jlong-name (7)"],
            ["-", "-"],
            ["wg0: 1 node (a)", "wg0: 1 node (a)"],
        ]) {
            let at = lines[0].find(head).unwrap();
            for (line, cell) in lines[1..].iter().zip(cells) {
                assert!(line[at..].starts_with(cell), "{head}: {line}");
            }
        }
        assert_eq!(
            lines[3..],
            [
                "1 socket on loopback addresses not listed; `--all` lists them",
                "2 sockets on overlay addresses not listed; `--all` lists them",
                "note: x",
                "1 socket exposed; next: bind to a loopback or overlay address, or name the interface in agent.toml, \
                 an uplink with role = \"underlay\"",
            ]
        );
    }
}
