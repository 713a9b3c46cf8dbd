//! `bulkhead run` and `bulkhead watch` on every host of the lab, and their removal.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_testkit::lab::{self, Host, INTERFACE, Lab, PREFIX, Process, run_within, slower};

use super::events::{Event, Seen};
use super::stop::Stop;

/// What the agents may take until they enforce.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What one command to a running agent may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// Where instances keep what outlives them: pins, sockets, state.
const KEPT: [&str; 3] = ["/sys/fs/bpf/bulkhead", "/run/bulkhead", "/var/lib/bulkhead"];

/// The agents. Dropping them detaches and ends them, and removes what they kept.
pub struct Agents {
    all: Vec<Agent>,
    seen: Arc<Mutex<HashSet<Seen>>>,
}

/// One host's agent. The fields' order is the order of removal, after `Drop`.
struct Agent {
    host: String,
    instance: String,
    bulkhead: PathBuf,
    watch: Option<Watch>,
    run: Process,
    /// Directories of [`KEPT`] that were not there before.
    made: Vec<&'static str>,
}

/// `bulkhead watch --json` and the thread that reads it.
struct Watch {
    process: Process,
    reader: Option<JoinHandle<()>>,
}

impl Agents {
    /// Starts all, and returns when all enforce and are watched.
    pub fn start(
        lab: &Lab,
        bulkhead: &Path,
        policy: &Path,
        inventory: &Path,
        mode: &str,
        stop: &Stop,
    ) -> Result<Agents> {
        let (policy, inventory) = (policy.display().to_string(), inventory.display().to_string());
        let mut agents = Agents::each(lab, bulkhead, |host| {
            let words = [
                "run",
                "--interface",
                INTERFACE,
                "--node",
                &host.name,
                &policy,
                "--inventory",
                &inventory,
                "--mode",
                mode,
            ];
            Ok(words.map(str::to_owned).into())
        })?;
        agents.wait(lab, slower(START_LIMIT), true, stop)?;
        Ok(agents)
    }

    /// Starts all, each with words of its own.
    pub fn each(lab: &Lab, bulkhead: &Path, words: impl Fn(&Host) -> Result<Vec<String>>) -> Result<Agents> {
        let all: Vec<String> = lab.hosts().iter().map(|host| host.name.clone()).collect();
        Self::on(lab, bulkhead, &all, words)
    }

    /// Starts those of some hosts.
    pub fn on(
        lab: &Lab,
        bulkhead: &Path,
        names: &[String],
        words: impl Fn(&Host) -> Result<Vec<String>>,
    ) -> Result<Agents> {
        let mut agents = Agents { all: Vec::new(), seen: Arc::default() };
        let made: Vec<&str> = KEPT.into_iter().filter(|path| !Path::new(path).exists()).collect();
        for name in names {
            let host = lab.host(name)?;
            let instance = format!("{PREFIX}{}-{}", std::process::id(), host.name);
            let mut command = Command::new(bulkhead);
            command.args(["--instance", &instance]).args(words(host)?);
            let log = lab.directory().join(format!("{}.run.log", host.name));
            let run = Process::spawn(&host.namespace, &mut command, &log)?;
            agents.all.push(Agent {
                host: host.name.clone(),
                instance,
                bulkhead: bulkhead.to_owned(),
                watch: None,
                run,
                made: made.clone(),
            });
        }
        Ok(agents)
    }

    /// Returns when all enforce, and are watched if that is asked for.
    pub fn wait(&mut self, lab: &Lab, limit: Duration, is_watched: bool, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + limit;
        for agent in &mut self.all {
            let host = lab.host(&agent.host)?;
            agent.wait(deadline, stop)?;
            if is_watched {
                let log = lab.directory().join(format!("{}.watch.log", host.name));
                agent.watch = Some(Watch::start(agent, host, &log, Arc::clone(&self.seen))?);
            }
        }
        Ok(())
    }

    /// Takes one host's agent off its interface; it is gone afterwards.
    pub fn detach(&mut self, host: &str) -> Result<()> {
        let at = self
            .all
            .iter()
            .position(|agent| agent.host == host)
            .with_context(|| format!("no agent on {host}"))?;
        let agent = self.all.remove(at);
        let output = agent.command(&["detach"])?;
        ensure!(
            output.status.success(),
            "`bulkhead detach` on {host} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Ends the agents, which write their histories then, and has a policy suggested from all of these.
    pub fn suggest(&mut self, policy: &Path, inventory: &Path) -> Result<String> {
        let mut asking = Command::new(&self.all.first().context("no agent")?.bulkhead);
        asking.arg("suggest").arg(policy).arg("--inventory").arg(inventory);
        for agent in &mut self.all {
            agent.run.stop(slower(COMMAND_LIMIT))?;
            asking.arg("--history").arg(Path::new(KEPT[2]).join(&agent.instance).join("history.db"));
        }
        let output = run_within(&mut asking, slower(COMMAND_LIMIT))?;
        ensure!(
            output.status.success(),
            "`bulkhead suggest` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command says on one host, whatever it ends with.
    pub fn ask(&self, host: &str, words: &[&str]) -> Result<String> {
        let agent = self.all.iter().find(|agent| agent.host == host);
        let output = agent.with_context(|| format!("no agent on {host}"))?.command(words)?;
        ensure!(
            !output.stdout.is_empty(),
            "`bulkhead {}` on {host} failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether that event has come.
    pub fn seen(&self, event: &Seen) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(event)
    }
}

impl Agent {
    /// Runs a `bulkhead` command against this agent.
    fn command(&self, words: &[&str]) -> Result<std::process::Output> {
        run_within(
            Command::new(&self.bulkhead).args(["--instance", &self.instance]).args(words),
            slower(COMMAND_LIMIT),
        )
    }

    /// Whether it runs and its programs are attached; `status` answers without an agent, too.
    fn enforces(&self) -> Result<bool> {
        let output = self.command(&["--json", "status"])?;
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
            return Ok(false);
        };
        // What only observes is not well, and says so.
        if !output.status.success() && status["agent"]["mode"] != "audit" {
            return Ok(false);
        }
        let attached = status["links"].as_array().is_some_and(|links| !links.is_empty());
        Ok(attached && !status["agent"].is_null())
    }

    /// Waits until it enforces.
    fn wait(&mut self, deadline: Instant, stop: &Stop) -> Result<()> {
        loop {
            stop.check()?;
            if let Some(status) = self.run.ended()? {
                bail!("the agent of {} ended ({status}):\n{}", self.host, self.run.log());
            }
            if self.enforces()? {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the agent of {} does not start:\n{}",
                self.host,
                self.run.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.watch.take());
        // Without the agent's help if need be: what is pinned is what would go on enforcing.
        match self.command(&["detach"]) {
            Ok(output) if output.status.success() => {}
            // Detached already.
            _ if !kept(&self.instance, KEPT[0]).any(|path| path.exists()) => {}
            Ok(output) => {
                eprintln!("detach on {}: {}", self.host, String::from_utf8_lossy(&output.stderr).trim());
            }
            Err(error) => eprintln!("detach on {}: {error:#}", self.host),
        }
        if let Err(error) = self.run.stop(COMMAND_LIMIT) {
            eprintln!("the agent of {}: {error}", self.host);
        }
        remove(&self.instance);
        for directory in &self.made {
            // Fails while another agent's files are there, as it should.
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Watch {
    fn start(agent: &Agent, host: &Host, log: &Path, seen: Arc<Mutex<HashSet<Seen>>>) -> Result<Watch> {
        let mut command = Command::new(&agent.bulkhead);
        command.args(["--instance", &agent.instance, "watch", "--json"]);
        command.stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let mut process = Process::spawn_piped(&host.namespace, &mut command, log)?;
        let output = process.child().stdout.take().context("watch has no standard output")?;
        let name = host.name.clone();
        let reader = std::thread::spawn(move || read(&name, output, &seen));
        Ok(Watch { process, reader: Some(reader) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its end closes the pipe, and that ends the reader.
        if let Err(error) = self.process.stop(COMMAND_LIMIT) {
            eprintln!("watch: {error}");
        }
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("watch: its reader panicked");
        }
    }
}

/// What an event tells of.
#[derive(serde::Deserialize)]
struct Kind {
    kind: String,
}

/// Shows and notes events until the pipe closes.
fn read(host: &str, output: ChildStdout, seen: &Mutex<HashSet<Seen>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let kind = serde_json::from_str::<Kind>(&line).map(|Kind { kind }| kind);
        match serde_json::from_str::<Event>(&line) {
            // Who changed what is no drop.
            _ if kind.is_ok_and(|kind| kind != "drop") => {}
            Ok(event) => {
                eprintln!("{}", event.line(host));
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(Seen::from_event(host, &event));
            }
            Err(error) => eprintln!("watch on {host} printed what is no event ({error}): {line}"),
        }
    }
}

/// Removes what demos of dead processes left in the agent's directories.
pub fn sweep() {
    for base in KEPT {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str()
                && lab::alive(name) == Some(false)
            {
                eprintln!("removing {base}/{name}, left by a process that is gone");
                remove(name);
            }
        }
    }
}

/// What an instance keeps in one of the directories: a directory or a file of its name.
fn kept(instance: &str, base: &'static str) -> impl Iterator<Item = PathBuf> {
    ["", ".sock"].into_iter().map({
        let instance = instance.to_owned();
        move |suffix| Path::new(base).join(format!("{instance}{suffix}"))
    })
}

fn remove(instance: &str) {
    for path in KEPT.into_iter().flat_map(|base| kept(instance, base)).filter(|path| path.exists()) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}
