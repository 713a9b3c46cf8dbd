//! `bulkhead inventory`: inventories from what other tools list.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, import};
use bulkhead_policy::source::Source;
use clap::{Subcommand, ValueEnum};

use crate::cli::Global;
use crate::diagnostics;
use crate::exit::{Answer, Usage};
use crate::{input, text};

/// Works on inventories.
#[derive(Debug, clap::Args)]
pub struct Inventory {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Import(Import),
}

/// Makes an inventory of what another tool lists, and prints it.
///
/// The list says who exists: names, keys, addresses, users and tags, approved routes, expiry. With --merge
/// an existing inventory adds what only people know: underlay addresses, other posture attributes, roles, and
/// nodes without a key. Nodes with a key that are no longer listed are left out, and named.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Who made the list.
    tool: Tool,
    /// What it printed; standard input if it is `-`.
    #[arg(default_value = "-")]
    list: PathBuf,
    /// Names by public key, for wireguard: `{"<key>": "<name>"}`.
    #[arg(long, value_name = "FILE", required_if_eq("tool", "wireguard"))]
    names: Option<PathBuf>,
    /// The inventory before, whose hand-kept fields stay.
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// `tailscale status --json`.
    Tailscale,
    /// `headscale nodes list -o json`.
    Headscale,
    /// `wg show IFACE dump`.
    Wireguard,
}

impl Inventory {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        match &self.action {
            Action::Import(import) => import.run(global),
        }
    }
}

impl Import {
    fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut findings = Findings::default();
        let list = read(&self.list)?;
        let mut sources = Vec::new();
        let listed = match (self.tool, &self.names) {
            (Tool::Tailscale, _) => import::tailscale(&list, &mut findings),
            (Tool::Headscale, _) => import::headscale(&list, &mut findings),
            (Tool::Wireguard, Some(names)) => import::wireguard(&list, &input::read(names)?, &mut findings),
            (Tool::Wireguard, None) => return Err(Usage("wireguard needs --names".into()).into()),
        };
        // A dump has private keys in it, which no excerpt may show; the two files may be taken for each other.
        if self.tool != Tool::Wireguard {
            sources.push(list);
        }
        let before = self.merge.as_deref().map(input::read).transpose()?;
        let existing = before.as_ref().and_then(|before| inventory::parse(before, &mut findings));
        sources.extend(before);
        let text = listed.filter(|_| !findings.has_errors()).map(|listed| {
            let text = import::write(&import::merge(listed, existing.as_ref(), &mut findings));
            // Whatever the tool allows, two nodes with one address are no inventory.
            let made = Source::new("(the imported inventory)", &text);
            inventory::parse(&made, &mut findings);
            sources.push(made);
            text
        });
        diagnostics::print(&findings, &sources, global.json);
        match text {
            Some(text) if !findings.has_errors() => {
                print!("{text}");
                Ok(Answer::Yes)
            }
            _ => Ok(Answer::No),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Source> {
    if path != Path::new("-") {
        return Ok(input::read(path)?);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
    let text = text::decode(bytes).map_err(|error| Usage(format!("standard input: {error}")))?;
    Ok(Source::new("(standard input)", &text))
}
