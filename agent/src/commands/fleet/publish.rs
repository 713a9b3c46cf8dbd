//! `bulkhead fleet publish`: what is signed, put where hosts find it.

use std::path::PathBuf;

use bulkhead_fleet::{Publication, Repository, Tree};

use super::memory::Remembered;
use super::{now, wrong};
use crate::commands::grants::key::Key;
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Publish what is signed, and say anew that it is fresh.
///
/// Hosts take nothing new once what says so has expired: run this with --freshen by a timer well before that. It needs the
/// key that freshens alone, which can hold a version back and cannot make one.
#[derive(Debug, clap::Args)]
pub struct Publish {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// The key that freshens.
    ///
    /// A private key, or the .pub of one that ssh-agent has.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Let this many hosts of a hundred take the policy's version.
    ///
    /// Without it a new version is for all, and one that is out already stays as it is. 100 lets it go to all.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    share: Option<u8>,
    /// Publish nothing new: only say anew that what is out is fresh.
    #[arg(long)]
    freshen: bool,
    /// How long it is fresh.
    #[arg(long, value_name = "TIME", default_value = "3d", value_parser = |text: &str| duration::within(text, 30))]
    fresh: u64,
    #[command(flatten)]
    remembered: Remembered,
}

impl Publish {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.directory);
        let _alone = tree.alone().map_err(wrong)?;
        self.remembered.goes_on(&tree)?;
        let mut key = Key::find(self.key.as_deref())?;
        let public = key.public();
        let how = Publication { share: self.share, fresh: self.fresh.cast_signed(), now: now() };
        let mut done = Vec::new();
        // One that has nothing to publish does not keep the other from it.
        let mut failed = Vec::new();
        for repository in Repository::ALL {
            let mut sign = |bytes: &[u8]| key.sign_bytes(bytes).map_err(|error| error.0);
            let came = match self.freshen {
                true => tree.freshen(repository, &public, &mut sign, how, None),
                false => tree.publish(repository, &public, &mut sign, how),
            };
            match came {
                Ok(lines) => done.extend(lines),
                Err(error) => failed.push(error.to_string()),
            }
        }
        self.remembered.goes_on(&tree)?;
        if global.json {
            println!("{}", serde_json::json!({"published": done, "failed": failed}));
        } else {
            done.iter().for_each(|line| println!("{line}"));
            for repository in Repository::ALL {
                let standing = tree.standing(repository).map_err(wrong)?;
                standing.waiting.iter().for_each(|line| println!("waiting: {line}"));
            }
        }
        match failed.is_empty() {
            true => Ok(Answer::Yes),
            false => Err(Usage(failed.join("; ")).into()),
        }
    }
}
