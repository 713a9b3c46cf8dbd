//! `bulkhead audit`: evidence that what was approved is what is enforced.

mod live;

use clap::Subcommand;

use crate::exit::Answer;
use crate::global::Global;

/// Compare what is enforced with what was approved.
#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Live(live::Live),
}

impl Audit {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        match self.what {
            What::Live(command) => command.run(global),
        }
    }
}
