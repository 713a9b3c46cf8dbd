//! `bulkhead version`: what this binary is, and what the agent that runs is.

use bulkhead_api::route::{self, Version as Running};
use serde::Serialize;

use crate::exit::Answer;
use crate::global::Global;
use crate::version::{COMMIT, VERSION};

/// Show the version, its commit, and those of the running agent.
///
/// Besides, the version of the maps that it shares with BPF programs, and that of the socket's routes.
#[derive(Debug, clap::Args)]
pub struct Version {}

/// What is told.
#[derive(Debug, Serialize)]
struct Told {
    /// The binary's version.
    version: &'static str,
    /// The commit that it was built from.
    commit: &'static str,
    /// The version of maps and pins.
    map_abi: u32,
    /// The version of the socket's routes.
    api: u32,
    /// The agent that runs; none: no agent answers, or this build has no agent.
    agent: Option<Running>,
}

impl Version {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let told = Told {
            version: VERSION,
            commit: COMMIT,
            map_abi: bulkhead_abi::VERSION,
            api: route::VERSION,
            agent: running(global)?,
        };
        if global.json {
            println!("{}", serde_json::to_string(&told)?);
        } else {
            print!("{}", text(&told));
        }
        Ok(Answer::Yes)
    }
}

#[cfg(feature = "agent")]
fn running(global: &Global) -> anyhow::Result<Option<Running>> {
    use crate::client::{PATIENCE, ask_within, block_on};
    let socket = crate::paths::Paths::of(&global.instance)?.socket;
    block_on(ask_within(PATIENCE, &socket, hyper::Method::GET, route::VERSIONS))
}

#[cfg(not(feature = "agent"))]
fn running(_: &Global) -> anyhow::Result<Option<Running>> {
    Ok(None)
}

/// The commit of an agent that names it.
fn commit(agent: &Running) -> &str {
    if agent.commit.is_empty() { "unknown" } else { &agent.commit }
}

fn text(told: &Told) -> String {
    let Told { version, commit: own, map_abi, api, agent } = told;
    let mut text = format!("bulkhead {version} (commit {own}), map ABI {map_abi}, API {api}\n");
    if let Some(agent) = agent {
        let (running, built) = (&agent.version, commit(agent));
        text += &format!("agent: {running} (commit {built}), API {}\n", agent.api);
        if (&**running, built) != (version, own) {
            text += "note: the running agent is another build than this binary; restart it to use this one, and what \
                     is enforced stays enforced meanwhile\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Running, Told, text};

    #[test]
    fn another_build_is_told_of() {
        let told = |agent: Option<(&str, &str)>| {
            let agent = agent.map(|(version, commit)| Running {
                version: version.to_owned(),
                commit: commit.to_owned(),
                api: 1,
            });
            text(&Told { version: "1.2.3", commit: "abc", map_abi: 9, api: 1, agent })
        };
        let own = "bulkhead 1.2.3 (commit abc), map ABI 9, API 1\n";
        assert_eq!(told(None), own);
        assert_eq!(told(Some(("1.2.3", "abc"))), format!("{own}agent: 1.2.3 (commit abc), API 1\n"));
        for (other, shown) in
            [(("1.2.3", "abd"), "abd"), (("1.2.2", "abc"), "abc"), (("1.2.3", ""), "unknown")]
        {
            let text = told(Some(other));
            assert!(text.contains(&format!("agent: {} (commit {shown})", other.0)), "{text}");
            assert!(text.contains("note: the running agent is another build"), "{text}");
        }
    }
}
