//! `bulkhead init`: a configuration, an inventory and a policy to begin with.

use std::path::{Path, PathBuf};

use bulkhead_host::places;
use bulkhead_policy::Dialect;
use serde_json::json;

use crate::exit::{Answer, Usage};
use crate::global::{self, Global};
use crate::init::{self, Draft, NAMES, Place};
use crate::input;

/// Where the default instance reads its configuration.
const DEFAULT: &str = "/etc/bulkhead";

/// Look at this host, and write a configuration and a first policy.
///
/// Takes WireGuard, Tailscale and NetBird interfaces, their peers, listening sockets and the SSH session at hand,
/// and writes agent.toml, inventory.json and policy.hujson, in audit mode. Nothing is enforced by it.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Where to write the files.
    #[arg(long, value_name = "DIR", default_value = DEFAULT)]
    directory: PathBuf,
    /// Replace files that are there.
    ///
    /// The configuration that a package brought is replaced without it, as long as nobody has changed it.
    #[arg(long)]
    force: bool,
    /// Print the files in place of writing them.
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let is_default = global::is_default(&global.instance)?;
        if !is_default && self.directory == Path::new(DEFAULT) {
            let message = format!(
                "instance '{}' has no directory of its own: name one by --directory",
                global.instance
            );
            return Err(Usage(message).into());
        }
        if global.dialect != Dialect::default() {
            let message =
                "the first policy has names of rules, which Tailscale's dialect has not: leave out --dialect";
            return Err(Usage(message.to_owned()).into());
        }
        let directory = std::path::absolute(&self.directory)?;
        let place = Place { directory, force: self.force };
        if !self.dry_run {
            // Before it is looked around, which takes a moment.
            place.check()?;
        }
        let draft = init::draft(&init::look()?);
        init::judge(&draft, global.dialect, input::now())?;
        let written = if self.dry_run { Vec::new() } else { place.write(&draft)? };
        let next = next(global, &place.directory);
        if global.json {
            let mut answer = serde_json::to_value(&draft)?;
            answer["written"] = json!(written);
            answer["next"] = json!(next);
            if self.dry_run {
                answer["files"] =
                    draft.files().into_iter().map(|(name, text)| (name.to_owned(), json!(text))).collect();
            }
            println!("{answer}");
            return Ok(Answer::Yes);
        }
        if self.dry_run {
            for (name, text) in draft.files() {
                println!("==> {} <==\n{text}", place.directory.join(name).display());
            }
        } else {
            print(&draft);
            written.iter().for_each(|path| println!("wrote {}", path.display()));
        }
        for warning in &draft.warnings {
            eprintln!("warning: {warning}");
        }
        // Whoever may change them says what is enforced.
        if let Some(Err(error)) = written.first().map(|path| places::check(path)) {
            eprintln!("warning: {:#}", anyhow::Error::from(error));
        }
        println!("\nNext:");
        next.iter().for_each(|command| println!("  {command}"));
        Ok(Answer::Yes)
    }
}

fn print(draft: &Draft) {
    let list = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    println!("node: {}", draft.node);
    println!("interfaces to enforce on: {}", list(&draft.interfaces));
    println!("not managed, the way out: {}", list(&draft.uplinks));
    println!("nodes of the mesh: {}", draft.nodes);
    let services = draft.services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        format!("{} ({} {})", service.program, service.protocol, ports.join(","))
    });
    println!("services here: {}", list(&services.collect::<Vec<_>>()));
    for (port, from) in &draft.management {
        let from: Vec<String> = from.iter().map(ToString::to_string).collect();
        println!("always let in to TCP port {port}: {}", from.join(", "));
    }
}

/// What to do now.
fn next(global: &Global, directory: &Path) -> [String; 3] {
    let path = |name: &str| {
        let path = directory.join(name).display().to_string();
        let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
        if is_plain { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
    };
    let [config, inventory, policy] = NAMES.map(path);
    let check = format!("bulkhead check {policy} --inventory {inventory}");
    if directory == Path::new(DEFAULT) {
        return [check, "systemctl start bulkhead".to_owned(), "bulkhead watch".to_owned()];
    }
    let instance = match &*global.instance {
        "default" => String::new(),
        name => format!(" --instance {name}"),
    };
    [
        format!("{check} --config {config}"),
        format!("bulkhead{instance} run --config {config}"),
        format!("bulkhead{instance} watch"),
    ]
}
