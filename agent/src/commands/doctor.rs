//! `bulkhead doctor`: what is wrong with this host, and what to do.

use std::path::PathBuf;

use crate::config::Config;
use crate::doctor::{Finding, Level, Patient, examine};
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Find what is wrong with this host, and what to do.
///
/// Looks at the kernel, privileges, nftables, clock, disk, interfaces, sockets that bypass the programs, what is
/// enforced, and the policy. Changes nothing. Ends with 1 if there is a problem.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The configuration.
    ///
    /// The default instance reads /etc/bulkhead/agent.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Doctor {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let config = Config::find(self.config.as_deref(), paths.is_default())?.unwrap_or_default();
        let patient =
            Patient { instance: &global.instance, paths: &paths, config: &config, dialect: global.dialect };
        let findings = examine(&patient)?;
        for Finding { check, level, found, next } in &findings {
            if global.json {
                continue;
            }
            println!("{:<8} {check}: {found}", level.name());
            if let Some(next) = next {
                println!("         next: {next}");
            }
        }
        if global.json {
            println!("{}", serde_json::json!({ "findings": findings }));
        }
        let is_well = findings.iter().all(|finding| finding.level < Level::Problem);
        Ok(if is_well { Answer::Yes } else { Answer::No })
    }
}
