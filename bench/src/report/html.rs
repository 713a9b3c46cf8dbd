//! One page that needs nothing but itself.

use std::fmt::Write as _;

use anyhow::Result;

use crate::figure::{Figure, Report};
use crate::groups::Group;
use crate::requirements::outcomes;

use super::plot::{self, Bar, Line};
use super::text::{bound, measured};
use super::{number, quantity, ratios, spread};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}\
td.n{text-align:right;white-space:nowrap}.met{color:#06702f}.missed{color:#b00020;font-weight:600}.doubt{color:#a05a00}\
svg{max-width:100%;height:auto}h2{margin-top:2em}small{color:#666}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page of one run.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn page(report: &Report) -> Result<String> {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Bulkhead: performance</title><style>{STYLE}</style>\
         <h1>Bulkhead: performance</h1><p>Run of {}{}. {}, {} CPUs, {} MiB, kernel {}, {}.</p>",
        escaped(&report.started),
        if report.quick { " (<b>quick</b>: few and short rounds, for a look, not for a claim)" } else { "" },
        escaped(&report.machine.processor),
        report.machine.cpus,
        report.machine.memory,
        escaped(&report.machine.kernel),
        if report.machine.virtual_machine { "a virtual machine" } else { "bare metal" },
    );
    html.push_str("<h2>What it must show</h2><table><tr><th>figure<th>measured<th>bound<th></tr>");
    for outcome in outcomes(report) {
        let class = match outcome.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let doubt = outcome.unreliable.as_ref().map_or_else(String::new, |why| {
            format!(" <span class=\"doubt\" title=\"{}\">unreliable</span>", escaped(why))
        });
        let _ = write!(
            html,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"{class}\">{}{doubt}</tr>",
            escaped(&outcome.what),
            measured(&outcome),
            bound(&outcome),
            outcome.verdict()
        );
    }
    html.push_str("</table>");
    for group in <Group as clap::ValueEnum>::value_variants() {
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.group() == group.name()).collect();
        if figures.is_empty() {
            continue;
        }
        let _ = write!(html, "<h2>{}</h2><p>{}</p>", escaped(&group.name()), escaped(group.about()));
        for plot in plots(*group, report)? {
            html.push_str(&plot);
        }
        rows(&figures, &mut html);
    }
    for (id, why) in &report.missing {
        let _ = write!(html, "<p>Not measured: {}: {}</p>", escaped(id), escaped(why));
    }
    html.push_str("</html>\n");
    Ok(html)
}

fn rows(figures: &[&Figure], html: &mut String) {
    html.push_str(
        "<details><summary>all figures</summary><table><tr><th>figure<th>what<th>median<th><th>ratios</tr>",
    );
    for figure in figures {
        let mut what = escaped(&figure.title);
        for (note, class) in [(&figure.note, ""), (&figure.unreliable, "doubt")] {
            if let Some(note) = note {
                let _ = write!(what, "<br><small class=\"{class}\">{}</small>", escaped(note));
            }
        }
        let _ = write!(
            html,
            "<tr><td>{}<td>{what}<td class=\"n\">{}<td class=\"n\">{}<td>{}</tr>",
            escaped(&figure.id),
            quantity(figure.summary.median, figure.unit),
            spread(figure),
            ratios(figure).iter().map(|ratio| escaped(ratio)).collect::<Vec<_>>().join("<br>")
        );
    }
    html.push_str("</table></details>");
}

/// Bars of the figures whose id starts so, named by the rest of their ids.
fn bars(report: &Report, title: &str, prefix: &str, without: &[&str]) -> Result<Option<String>> {
    let figures = report.figures.iter().filter_map(|figure| {
        let name = figure.id.strip_prefix(prefix)?;
        (!name.contains('/') && !without.contains(&name)).then_some((name, figure))
    });
    let bars: Vec<Bar> = figures
        .clone()
        .map(|(name, figure)| Bar {
            name: name.to_owned(),
            value: figure.summary.median.max(0.0),
            middle: (figure.summary.low.max(0.0), figure.summary.high.max(0.0)),
        })
        .collect();
    let unit = figures.map(|(_, figure)| figure.unit.name()).next().unwrap_or_default();
    if bars.is_empty() { Ok(None) } else { plot::bars(title, unit, &bars).map(Some) }
}

/// Lines of the figures `<prefix><name>/<number>`, by name.
fn lines(report: &Report, prefix: &str, names: &[&str]) -> Vec<Line> {
    let line = |name: &&str| {
        let points = report.figures.iter().filter_map(|figure| {
            let x = figure.id.strip_prefix(prefix)?.strip_prefix(name)?.strip_prefix('/')?.parse().ok()?;
            (figure.summary.median > 0.0).then_some((x, figure.summary.median))
        });
        Line { name: (*name).to_owned(), points: points.collect() }
    };
    names.iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn growth(
    report: &Report,
    title: &str,
    x: &str,
    y: &str,
    prefix: &str,
    names: &[&str],
) -> Result<Option<String>> {
    let lines = lines(report, prefix, names);
    if lines.is_empty() { Ok(None) } else { plot::growth(title, x, y, &lines).map(Some) }
}

/// The plots of a group.
fn plots(group: Group, report: &Report) -> Result<Vec<String>> {
    const PLACES: [&str; 4] = ["dense", "scattered", "everywhere", "ipv6"];
    const DRIVER: [&str; 2] = ["empty", "key"];
    let plots = match group {
        Group::Decision => {
            let mut plots = Vec::new();
            for place in ["tc/ipv4/131072", "tc/ipv6/131072", "xdp/ipv4/131072", "tc/ipv4/1000000"] {
                let title = format!("ns a packet: {}", number_of(place));
                plots.push(bars(report, &title, &format!("decision/{place}/"), &DRIVER)?);
            }
            plots
        }
        Group::Drop => vec![bars(report, "packets dropped a second by one core, native XDP", "drop/", &[])?],
        Group::Forward => vec![bars(
            report,
            "added ns a packet, 131,072 addresses",
            "forward/added/",
            &["nft-100", "nft-1000"],
        )?],
        Group::Tunnel => ["tcp", "udp", "cpu", "latency-p50", "latency-p99"]
            .into_iter()
            .map(|what| bars(report, &format!("tunnel: {what}"), &format!("tunnel/{what}/"), &[]))
            .collect::<Result<_>>()?,
        Group::Compile => vec![bars(report, "from files to tables", "compile/time/", &[])?],
        Group::Events => vec![bars(report, "a distinct drop, by reports a second", "events/cost/", &[])?],
        Group::Swap | Group::Quarantine => Vec::new(),
        Group::Scale => vec![
            growth(report, "a forwarded packet", "identities", "ns", "scale/forward/", &PLACES)?,
            growth(report, "memory of the tables", "identities", "MiB", "scale/memory/", &PLACES)?,
            growth(report, "from files to tables", "identities", "ms", "scale/compile/", &PLACES)?,
            growth(report, "from tables to a loaded generation", "identities", "ms", "scale/load/", &PLACES)?,
            growth(report, "a forwarded packet", "rules", "ns", "scale/forward/", &["rules"])?,
            growth(report, "a reply", "flows", "ns", "scale/reply/", &["flows"])?,
            growth(report, "memory of the flows", "flows", "MiB", "scale/memory/", &["flows"])?,
        ],
    };
    Ok(plots.into_iter().flatten().collect())
}

/// `tc/ipv4/131072` in words.
fn number_of(place: &str) -> String {
    let mut parts = place.split('/');
    let (hook, family) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let count = parts.next().and_then(|count| count.parse().ok()).map(number).unwrap_or_default();
    format!("{}, {family}, {count} identities", hook.to_uppercase())
}
