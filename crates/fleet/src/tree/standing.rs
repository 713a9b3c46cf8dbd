//! What a repository is at, for people.

use serde::Serialize;

use super::Tree;
use super::read::target;
use crate::error::Result;
use crate::repository::Repository;
use crate::roles::signers;
use crate::rollout::{MEMBER, Rollout};

/// What a repository is at, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The fleet's fingerprint; none before there are both first roots.
    pub fleet: Option<String>,
    /// Which.
    pub repository: &'static str,
    /// The version of its root; none: there is none.
    pub root: Option<u64>,
    /// When the root expires.
    pub root_expires: Option<String>,
    /// The version of what is published; none: nothing is.
    pub version: Option<u64>,
    /// Its bundle's SHA-256, hexadecimal.
    pub digest: Option<String>,
    /// Its bundle's length, bytes.
    pub length: Option<u64>,
    /// Who has signed it.
    pub signers: Vec<String>,
    /// When it expires.
    pub expires: Option<String>,
    /// When the timestamp expires, without which nobody takes anything new.
    pub fresh_until: Option<String>,
    /// Hosts of a hundred that may take it; none: all.
    pub share: Option<u8>,
    /// What waits for signatures, and for whose.
    pub waiting: Vec<String>,
}

impl Tree {
    /// What a repository is at.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn standing(&self, repository: Repository) -> Result<Standing> {
        let root = self.root(repository)?;
        let published = self.published(repository)?;
        let mut waiting = Vec::new();
        for draft in [self.draft_root(repository), self.draft_targets(repository)] {
            let words = match draft {
                Ok(None) => continue,
                Ok(Some(draft)) => match draft.missing()? {
                    Some(missing) => missing,
                    None => format!("{} is signed: publish it", draft.name()),
                },
                Err(error) => error.to_string(),
            };
            if !waiting.contains(&words) {
                waiting.push(words);
            }
        }
        let of = published.as_ref();
        let targets = of.map(|published| &published.targets);
        let bundle = targets.and_then(|targets| target(repository, &targets.signed));
        let version = targets.map(|targets| targets.signed.version.get());
        let member = of.and_then(|published| published.timestamp.signed._extra.get(MEMBER));
        let rollout = member.and_then(|member| Rollout::read(Some(member), version.unwrap_or_default()));
        let signers = match (&root, targets) {
            (Some(root), Some(targets)) => signers(&root.signed, targets),
            _ => Vec::new(),
        };
        Ok(Standing {
            fleet: self.identity()?.and_then(|identity| identity.fingerprint()),
            repository: repository.name(),
            root: root.as_ref().map(|root| root.signed.version.get()),
            root_expires: root.as_ref().map(|root| root.signed.expires.to_string()),
            version,
            digest: bundle.as_ref().map(|(digest, _)| digest.clone()),
            length: bundle.map(|(_, length)| length),
            signers,
            expires: targets.map(|targets| targets.signed.expires.to_string()),
            fresh_until: of.map(|published| published.timestamp.signed.expires.to_string()),
            share: rollout.map(|rollout| rollout.share),
            waiting,
        })
    }
}
