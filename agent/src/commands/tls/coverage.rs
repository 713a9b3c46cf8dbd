//! `bulkhead tls coverage`: every service port, what rules want there and what was seen.

use bulkhead_api::event::Timestamp;
use bulkhead_api::route;
use bulkhead_api::text::plain;
use bulkhead_api::tls::{Began, ClientCertificate, Coverage, Port, SeenBy};
use hyper::Method;

use super::table::{NONE, begins, count, presented, table, until};
use crate::client::{self, PATIENCE};
use crate::exit::{Answer, Usage};
use crate::exposed::unit;
use crate::global::Global;
use crate::paths::Paths;
use crate::{input, owners};

/// List this host's service ports, and what each begins with.
///
/// What rules want of them, what the kernel has counted and the agent's probes have found, and the certificates that
/// are presented. Ends with 0 only if no port is in plaintext and every certificate is valid now.
#[derive(Debug, clap::Args)]
pub struct TlsCoverage {}

impl TlsCoverage {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let Some(coverage) = ask(&Paths::of(&global.instance)?)? else {
            let words = "no agent answers, and it alone knows what was counted and found; `bulkhead tls scan` looks by itself";
            return Err(Usage(words.to_owned()).into());
        };
        if global.json {
            println!("{}", serde_json::to_string(&coverage)?);
        } else {
            print!("{}", text(&coverage, Timestamp::from_unix(input::now())));
        }
        let is_well = coverage.count(Began::Plaintext) == 0 && coverage.invalid() == 0;
        Ok(if is_well { Answer::Yes } else { Answer::No })
    }
}

/// What the agent knows, with what this process may see and the agent may not: whose sockets are. `None` if no agent answers.
///
/// # Errors
/// If the agent refuses.
pub fn ask(paths: &Paths) -> anyhow::Result<Option<Coverage>> {
    let ask = client::ask_within(PATIENCE, &paths.socket, Method::GET, route::TLS);
    let Some(mut coverage): Option<Coverage> = client::block_on(ask)? else { return Ok(None) };
    if coverage.ports.iter().any(|port| port.process.is_none()) {
        let owners = owners::of_sockets();
        for port in coverage.ports.iter_mut().filter(|port| port.process.is_none()) {
            let owner = port.inodes.iter().find_map(|inode| owners.get(inode));
            port.unit = owner.and_then(|owner| unit::of(owner.pid));
            port.process = owner.map(|owner| owner.name.clone());
        }
    }
    Ok(Some(coverage))
}

const HEAD: [&str; 8] = [
    "port",
    "address",
    "process",
    "rules want",
    "begins",
    "client certificate",
    "certificate until",
    "presented",
];

fn text(coverage: &Coverage, now: Timestamp) -> String {
    let mut text = table(HEAD, coverage.ports.iter().map(|port| row(port, now)).collect());
    for port in coverage.ports.iter().filter(|port| port.why.is_some() || port.untrusted.is_some()) {
        let why = port.why.iter().cloned();
        let trust =
            port.untrusted.iter().map(|why| format!("its chain leads to no trusted authority: {why}"));
        let words: Vec<String> = why.chain(trust).collect();
        text += &format!("{}/{}: {}\n", port.port, port.protocol, plain(&words.join("; ")));
    }
    for file in &coverage.files {
        for certificate in &file.certificates {
            let is_valid = if certificate.invalid(now).is_none() { "until " } else { "" };
            let until = until(Some(certificate), now);
            text +=
                &plain(&format!("file {}: {}, {is_valid}{until}", file.file, presented(Some(certificate))));
            text.push('\n');
        }
        if let Some(problem) = &file.problem {
            text += &format!("file {}: {}\n", plain(&file.file), plain(problem));
        }
    }
    text.extend(coverage.notes.iter().map(|note| format!("note: {}\n", plain(note))));
    text + &summary(coverage)
}

fn row(port: &Port, now: Timestamp) -> [String; 8] {
    let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
    let own = port.certificate.as_ref();
    let by = port.by.map_or("", |by| match by {
        SeenBy::Kernel => ", counted",
        SeenBy::Probe => ", probed",
    });
    let demands = match port.client_certificate {
        ClientCertificate::Unknown if own.is_none() => NONE,
        other => other.words(),
    };
    [
        format!("{}/{}", port.port, port.protocol),
        format!("{}{}", if port.is_wildcard { "* " } else { "" }, addresses.join(" ")),
        process(port),
        wants(port).to_owned(),
        begins(port.began, port.looks_like.as_deref()) + by,
        demands.to_owned(),
        until(own, now),
        presented(own),
    ]
}

fn process(port: &Port) -> String {
    match (&port.process, &port.unit) {
        (Some(process), Some(unit)) => format!("{process} ({unit})"),
        (Some(process), None) => process.clone(),
        _ => NONE.to_owned(),
    }
}

/// What rules want of a port.
fn wants(port: &Port) -> &'static str {
    match port.wanted {
        Some(_) if port.is_required => "required",
        Some(bulkhead_api::tls::Wanted::Required) => "required by some",
        Some(bulkhead_api::tls::Wanted::Observe) => "observe",
        None => NONE,
    }
}

/// How many there are of each, with those in plaintext by name.
fn summary(coverage: &Coverage) -> String {
    let number = coverage.ports.len();
    let [tls, plaintext, unknown] =
        [Began::Tls, Began::Plaintext, Began::Unknown].map(|began| coverage.count(began));
    let named: Vec<String> = coverage
        .ports
        .iter()
        .filter(|port| port.began == Began::Plaintext)
        .map(|port| format!("{}/{} ({})", port.port, port.protocol, process(port)))
        .collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", plain(&named.join(", "))) };
    let invalid = match coverage.invalid() {
        0 => String::new(),
        some => format!("; {} not valid now", count(some, "certificate")),
    };
    format!(
        "{}: {tls} began as TLS, {unknown} unknown, {plaintext} plaintext{named}{invalid}\n",
        count(number, "service port")
    )
}
