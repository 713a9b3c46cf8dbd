//! `bulkhead sources`: who is asked who exists.

use bulkhead_api::route;

use crate::client;
use crate::commands::status;
use crate::daemon::store::Store;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::paths::Paths;

/// List the inventory's sources, or believe one of them.
///
/// Each with how many nodes it lists, when it last answered, and what of it is not believed or left out. Exit 1 if one
/// is silent or not believed.
#[derive(Debug, clap::Args)]
pub struct Sources {
    /// Believe a source's next answer, however many nodes it lacks.
    #[arg(long, value_name = "SOURCE")]
    accept: Option<String>,
    /// Print the inventory that is enforced, with what sources list.
    ///
    /// For `check`, `explain`, `eval` and `diff`, which read files. Only root may.
    #[arg(long, conflicts_with = "accept")]
    inventory: bool,
}

impl Sources {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        if self.inventory {
            print!("{}", enforced(&Store::new(&paths.state))?);
            return Ok(Answer::Yes);
        }
        if let Some(name) = &self.accept {
            let accepted: bool = client::command(&paths, route::ACCEPT, name)?;
            if global.json {
                println!("{}", serde_json::json!({"accepted": accepted}));
            } else {
                println!("the next answer of {name} is believed");
            }
            return Ok(Answer::Yes);
        }
        let status = status::ask(&global.instance, &paths)?;
        let Some(agent) = status.agent else {
            return Err(Usage("no agent answers, and it alone asks sources; start it".to_owned()).into());
        };
        if global.json {
            println!("{}", serde_json::to_string(&agent.sources)?);
        } else if agent.sources.is_empty() {
            println!("agent.toml has no [[source]]: who exists is the inventory's file alone");
        } else {
            let mut out = String::new();
            agent.sources.iter().try_for_each(|source| status::source(&mut out, source))?;
            print!("{out}");
        }
        if let Some(problem) = &agent.sources_problem {
            eprintln!("{problem}");
        }
        let is_heard = agent.sources.iter().all(|source| source.problem.is_none());
        let is_well = is_heard && agent.sources_problem.is_none();
        Ok(if is_well { Answer::Yes } else { Answer::No })
    }
}

/// The inventory that is enforced, as it was kept.
fn enforced(store: &Store) -> anyhow::Result<String> {
    let number = store.ledger()?.enforced;
    match store.inputs_of(number) {
        Some((files, _)) => Ok(files.inventory.text().to_owned()),
        None if number == 0 => Err(Usage("nothing is enforced here".to_owned()).into()),
        None => Err(Usage(format!(
            "the files of generation {number} are not kept, or may not be read; ask as root"
        ))
        .into()),
    }
}
