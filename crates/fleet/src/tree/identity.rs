//! Which fleet a directory has, and how far it has come: what a machine remembers of it.

use tough::schema::RoleType;

use super::Tree;
use crate::client::digest;
use crate::draft::{Body, Draft};
use crate::error::{Error, Result};
use crate::keys::{KeyId, canonical, hex};
use crate::repository::Repository;
use crate::roles::ids;

/// Which fleet a directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The identifier that all metadata has, hexadecimal. Whoever begins another fleet can give it the same.
    pub(crate) id: String,
    /// SHA-256 of what is signed of both first roots, hexadecimal, as [`Repository::ALL`] has them: they lead to all that
    /// is believed. None: there is no such root, not even a draft.
    pub(crate) first: [Option<String>; 2],
    /// Whose roots cannot be read, of the same: neither keeps the other from being gone on with.
    pub(crate) is_unread: [bool; 2],
}

impl Identity {
    /// The identifier that all metadata has, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people compare by eye or voice: it is another one if anything of the first roots is. 128 bits, in eight groups
    /// of four hexadecimal digits. None before there are both roots.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let [Some(policy), Some(inventory)] = &self.first else { return None };
        let sum = digest(format!("{policy}\n{inventory}\n").as_bytes());
        let groups: Vec<&str> = (0..8).filter_map(|group| sum.get(group * 4..group * 4 + 4)).collect();
        Some(groups.join("-"))
    }
}

/// How far a repository has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// SHA-256 of what is signed of each root, from the first one on, and whose keys freshen by it.
    pub roots: Vec<(String, Vec<String>)>,
    /// What is published; none: nothing is.
    pub published: Option<Versions>,
}

/// What is published.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    pub targets: u64,
    /// SHA-256 of what is signed of the targets, hexadecimal.
    pub targets_sha256: String,
    pub snapshot: u64,
    pub timestamp: u64,
    /// Whose keys freshen.
    pub online: Vec<String>,
}

fn names(keys: &[KeyId]) -> Vec<String> {
    keys.iter().map(|key| hex(key)).collect()
}

impl Tree {
    /// Which fleet it is, also before its first roots are published. None: there is none.
    ///
    /// # Errors
    /// If neither repository's files can be read, or both are of two fleets.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let mut id: Option<String> = None;
        let (mut first, mut is_unread) = ([None, None], [false, false]);
        let mut unread = None;
        for (index, repository) in Repository::ALL.into_iter().enumerate() {
            let (fleet, digest) = match self.first_root(repository) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    (is_unread[index], unread) = (true, Some(error));
                    continue;
                }
            };
            if id.as_ref().is_some_and(|id| *id != fleet) {
                return Err(Error::Asked(format!(
                    "{}: policy and inventory are of two fleets; restore the fleet directory",
                    self.0.display()
                )));
            }
            (id, first[index]) = (Some(fleet), Some(digest));
        }
        match (id, unread) {
            (Some(id), _) => Ok(Some(Identity { id, first, is_unread })),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// A repository's fleet, and the digest of its first root.
    fn first_root(&self, repository: Repository) -> Result<Option<(String, String)>> {
        let root = match self.roots(repository)?.into_iter().next() {
            Some(root) => root.signed,
            // A draft that is none is told of where drafts are asked for.
            None => match self.draft_root(repository).ok().flatten() {
                Some(Draft { body: Body::Root(root), .. }) => *root,
                _ => return Ok(None),
            },
        };
        Ok(Some((self.stamp(repository, &root)?.fleet, digest(&canonical(&root)?))))
    }

    /// How far a repository has come.
    ///
    /// # Errors
    /// If files cannot be read, or are not what was signed.
    pub(crate) fn position(&self, repository: Repository) -> Result<Position> {
        let mut roots = Vec::new();
        for root in self.roots(repository)? {
            let online = names(&ids(&root.signed, RoleType::Timestamp));
            roots.push((digest(&canonical(&root.signed)?), online));
        }
        let published = match self.published(repository)? {
            None => None,
            Some(published) => Some(Versions {
                targets: published.targets.signed.version.get(),
                targets_sha256: digest(&canonical(&published.targets.signed)?),
                snapshot: published.snapshot.signed.version.get(),
                timestamp: published.timestamp.signed.version.get(),
                online: names(&published.online),
            }),
        };
        Ok(Position { roots, published })
    }
}
