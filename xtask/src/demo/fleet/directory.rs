//! The fleet directory, and the keys of those who sign what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_testkit::lab::{Lab, run_within, slower};

/// What one command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Who signs policies, and the two machines' keys.
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const MACHINES: [&str; 2] = ["enroller", "online"];

/// What is published, in a directory with the keys beside it, which real people do not have in one place.
pub(super) struct Directory {
    bulkhead: PathBuf,
    place: PathBuf,
}

impl Directory {
    /// Makes keys, and roots that two of three people sign.
    pub(super) fn begin(lab: &Lab, bulkhead: &Path) -> Result<Self> {
        let directory = Self { bulkhead: bulkhead.to_owned(), place: lab.directory().to_owned() };
        for name in PEOPLE.iter().chain(&MACHINES) {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name]);
            let made = run_within(keygen.current_dir(&directory.place), LIMIT)?;
            ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        let people: Vec<String> = PEOPLE.iter().map(|name| format!("{name}={name}.pub")).collect();
        let mut words = vec!["init", directory.path()];
        people.iter().for_each(|person| words.extend(["--person", person]));
        words.extend(["--enroller", "enroller.pub", "--online", "online.pub"]);
        directory.run(&words)?;
        Ok(directory)
    }

    /// Where it is, as commands that run beside the keys name it.
    #[expect(clippy::unused_self, reason = "there is one, which this is")]
    pub(super) fn path(&self) -> &'static str {
        "fleet"
    }

    /// A file beside the keys.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Writes a file beside the keys; its whole path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.beside(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// `bulkhead fleet …`, beside the keys: what it says, whatever it ends with, and whether that was well.
    pub(super) fn ask(&self, words: &[&str]) -> Result<(bool, String)> {
        self.asked(Command::new(&self.bulkhead), words)
    }

    /// The same in a network.
    pub(super) fn ask_within(&self, network: &str, words: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{network}")).arg(&self.bulkhead);
        self.asked(command, words)
    }

    fn asked(&self, mut command: Command, words: &[&str]) -> Result<(bool, String)> {
        command.arg("fleet").args(words).current_dir(&self.place);
        // Nothing of the demonstration is left in anybody's home.
        command.env("BULKHEAD_FLEET_STATE", self.beside("remembered"));
        let output = run_within(&mut command, slower(LIMIT))?;
        let said = String::from_utf8(output.stdout)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() || output.status.code() == Some(1),
            "`bulkhead fleet {}` failed: {}",
            words.join(" "),
            complaint.trim()
        );
        Ok((output.status.success(), said))
    }

    /// The same, which must end well.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let (is_well, said) = self.ask(words)?;
        ensure!(is_well, "`bulkhead fleet {}` answers no: {}", words.join(" "), said.trim());
        Ok(said)
    }

    /// What a policy would change.
    pub(super) fn diff(&self, policy: &str) -> Result<()> {
        self.write("next.hujson", policy)?;
        print!("{}", self.ask(&["diff", self.path(), "--policy", "next.hujson"])?.1);
        Ok(())
    }

    /// Has two people sign a policy, and whatever else waits for them.
    pub(super) fn sign_policy(&self, policy: &str) -> Result<()> {
        self.write("policy.hujson", policy)?;
        self.run(&["sign", self.path(), "--policy", "policy.hujson", "--key", "alice", "--yes"])?;
        self.run(&["sign", self.path(), "--key", "bob", "--yes"])?;
        Ok(())
    }

    /// Has the enroller sign an inventory.
    pub(super) fn sign_inventory(&self, inventory: &str) -> Result<()> {
        self.write("inventory.json", inventory)?;
        self.run(&["sign", self.path(), "--inventory", "inventory.json", "--key", "enroller", "--yes"])?;
        Ok(())
    }

    /// Has two people sign the first policy and roots, and the enroller the first inventory.
    pub(super) fn sign_first(&self, policy: &str, inventory: &str) -> Result<()> {
        self.write("policy.hujson", policy)?;
        self.write("inventory.json", inventory)?;
        let files = ["--policy", "policy.hujson", "--inventory", "inventory.json"];
        self.run(&[&["sign", self.path()], &files[..], &["--key", "alice", "--yes"]].concat())?;
        for key in ["bob", "enroller"] {
            self.run(&["sign", self.path(), "--key", key, "--yes"])?;
        }
        Ok(())
    }
}
