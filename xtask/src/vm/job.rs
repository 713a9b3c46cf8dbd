//! What is run in the guests: built, and packed behind the kernel's modules.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::choice::Wanted;
use super::image::{fresh, libraries, pack, place, programs};
use super::output;
use super::report::Expected;
use crate::cargo::{self, build_agent, workspace};

/// What is run on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Job {
    /// Every specialisation of the programs is loaded; nothing is attached.
    Verified,
    /// The agent at work on the kernel's own WireGuard and on Ethernet: the demo, and the tests of its life.
    Agent,
    /// The package installed, used, upgraded, removed and purged in a Debian 12 with systemd, over a reboot.
    Package,
}

/// Interfaces, uses and programs: what `crates/dataplane/examples/verified.rs` loads at least.
const PROGRAMS: usize = 46 + 9 + 7;

/// The guest of a job that has one.
const ALONE: &str = "alone";

/// A kernel tells its tests from the host's by these.
const ENVIRONMENT: &str = "BULKHEAD=/usr/bin/bulkhead BULKHEAD_WIREGUARD=kernel BULKHEAD_LINKS=all BULKHEAD_SWAPS=6 BULKHEAD_PAUSE=400";

/// The tests of the agent's life that stand for what it must do on every kernel.
const LIFE: [(&str, &str); 16] = [
    ("seeding", "a_first_attach_cuts_only_what_the_policy_does_not_admit"),
    ("kill-and-takeover", "enforcement_goes_on_without_the_agent_and_is_taken_over_without_a_gap"),
    ("apply", "a_revoked_rule_cuts_its_connection_and_no_other"),
    ("quarantine", "quarantine_cuts_at_the_next_packet_and_release_restores"),
    ("binding", "bound::an_address_that_moves_to_another_key_is_nobodys_within_a_second"),
    ("key-change", "bound::a_change_of_keys_loses_no_packet"),
    ("guard-and-detach", "the_guard_holds_where_no_program_is"),
    ("guard-first", "starting::the_guard_is_there_before_the_first_program"),
    ("interface-re-created", "an_interface_that_comes_back_is_enforced_again"),
    ("tunnel-re-created", "a_tunnel_that_comes_back_is_enforced_again"),
    ("bond", "uplinks::a_bond_is_enforced_and_stays_so_when_its_cable_changes"),
    ("vlan", "uplinks::a_vlan_is_enforced_when_it_is_made_again"),
    ("stage", "staged::a_staged_policy_observes_and_is_promoted"),
    ("exchange", "exchange::an_exchange_interface_passes_its_lanes_and_nothing_else"),
    ("account", "limits::reports_have_a_budget_and_the_account_stays_exact"),
    // Native XDP and TCX on Ethernet, TCX on the tunnel over it, both at once, by IPv4 and IPv6.
    ("swaps-under-load", "endurance::swaps::swaps_lose_nothing_and_let_nothing_through"),
];

/// A job, ready to be put into its guests.
#[derive(Debug)]
pub struct Packed {
    /// A cpio archive.
    pub files: PathBuf,
    /// Their names, and what must come of each. They run at the same time.
    pub guests: Vec<(&'static str, Expected)>,
    /// How long it may take.
    pub limit: Duration,
}

impl Job {
    /// Whether it is run on a kernel where none is named.
    pub fn is_for(self, kernel: Wanted) -> bool {
        match self {
            Self::Verified => true,
            // Elsewhere nothing can be attached; the README says which kernels those are.
            Self::Agent => kernel.attaches(),
            Self::Package => kernel == Wanted::PACKAGED,
        }
    }

    /// Builds and packs below `directory`. Of `agent` only the checks that are named, or all.
    pub fn pack(self, directory: &Path, only: &[String]) -> Result<Packed> {
        let root = fresh(&directory.join(format!("{self:?}").to_lowercase()))?;
        let files = root.with_extension("cpio");
        let packed = match self {
            Self::Verified => {
                // Of the whole workspace, as the tests have built it already.
                let words = ["build", "--workspace", "--example", "verified"];
                install("verified", &built("verified", &words)?, &root)?;
                place(Path::new("job"), b"exec verified\n", &root)?;
                let limit = Duration::from_secs(600);
                Packed { files, guests: vec![(ALONE, Expected::Programs(PROGRAMS))], limit }
            }
            Self::Agent => {
                // Emulated, a debug build of the agent would take several times as long.
                let agent = build_agent("release")?.binary;
                let tests = ["test", "--no-run", "--package", "bulkhead-tests", "--test", "lifecycle"];
                install("bulkhead", &agent, &root)?;
                install("lifecycle", &built("lifecycle", &tests)?, &root)?;
                install("xtask", &std::env::current_exe()?, &root)?;
                programs(&["ip", "nft", "wg", "setarch", "openssl"], &root)?;
                // The demo reads the policy where it is on this machine.
                for file in ["policy.hujson", "inventory.json"] {
                    let path = workspace().join("policies/trading-firm").join(file);
                    place(&path, &fs::read(&path)?, &root)?;
                }
                let (checks, names) = checks(only)?;
                place(Path::new("checks"), checks.as_bytes(), &root)?;
                place(Path::new("job"), include_bytes!("guest/checks"), &root)?;
                let limit = Duration::from_secs(3600);
                Packed { files, guests: vec![(ALONE, Expected::Checks(names))], limit }
            }
            Self::Package => {
                let guests = super::package::lay_out(&root)?;
                let guests = guests.into_iter().map(|(name, checks)| (name, Expected::Checks(checks)));
                Packed { files, guests: guests.collect(), limit: Duration::from_secs(900) }
            }
        };
        pack(&root, &packed.files)?;
        fs::remove_dir_all(root)?;
        Ok(packed)
    }
}

/// The guest's list of checks: seconds, name, command; and the names.
fn checks(only: &[String]) -> Result<(String, Vec<String>)> {
    // Seven agents start at once.
    let demo = ("demo", format!("1500 demo {ENVIRONMENT} BULKHEAD_SLOWER=12 xtask demo"));
    let life = LIFE.iter().map(|&(name, test)| {
        let command = format!("lifecycle --exact {test} --test-threads 1");
        (name, format!("600 {name} {ENVIRONMENT} BULKHEAD_SLOWER=6 {command}"))
    });
    let all: Vec<_> = std::iter::once(demo).chain(life).collect();
    for name in only {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        ensure!(names.contains(&name.as_str()), "there is no check `{name}`; there are {}", names.join(", "));
    }
    let (mut list, mut names) = (String::new(), Vec::new());
    for (name, line) in all {
        if only.is_empty() || only.iter().any(|one| one == name) {
            _ = writeln!(list, "{line}");
            names.push(name.to_owned());
        }
    }
    Ok((list, names))
}

/// The executable of a target that cargo builds with these words.
fn built(target: &str, words: &[&str]) -> Result<PathBuf> {
    let found = cargo::executables(words)?.into_iter().find(|(name, _)| name == target);
    Ok(found.with_context(|| format!("cargo built no executable {target}"))?.1)
}

/// Puts an executable into the guest's /usr/bin, without what only debuggers read.
fn install(name: &str, executable: &Path, root: &Path) -> Result<()> {
    let to = Path::new("/usr/bin").join(name);
    place(&to, b"", root)?;
    output(Command::new("strip").arg("-o").arg(root.join("usr/bin").join(name)).arg(executable))?;
    libraries(executable, root)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_check_has_a_line_and_a_name_of_its_own() {
        let (list, names) = checks(&[]).unwrap();
        assert_eq!(names.len(), LIFE.len() + 1);
        assert_eq!(list.lines().count(), names.len());
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for (line, name) in list.lines().zip(&names) {
            assert!(line.split(' ').nth(1) == Some(name), "{line}");
        }
    }

    #[test]
    fn only_what_is_named_is_run_and_what_is_not_there_is_told() {
        let (list, names) = checks(&["stage".to_owned()]).unwrap();
        assert_eq!((list.lines().count(), names), (1, vec!["stage".to_owned()]));
        assert!(checks(&["stages".to_owned()]).unwrap_err().to_string().contains("stage,"));
    }
}
