//! Which repository of which fleet metadata is of. The same people, and the same key that freshens, sign for more than one:
//! what is good in one must be nothing in another.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::keys::{hex, unhex};
use crate::repository::Repository;

const REPOSITORY: &str = "x-bulkhead-repository";
const FLEET: &str = "x-bulkhead-fleet";

/// A fleet's identifier, bytes.
const LENGTH: usize = 16;

/// Two members of each signed body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub repository: Repository,
    /// Random, hexadecimal: made with the first roots.
    pub fleet: String,
}

/// The identifier of the fleet that metadata is of, such as a root: 32 hexadecimal digits.
///
/// # Errors
/// If it is of none, why.
pub fn fleet_of(metadata: &[u8]) -> std::result::Result<String, String> {
    Stamp::read(metadata).map(|stamp| stamp.fleet)
}

/// What all metadata of an origin must be of.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// One repository of one fleet.
    Of(Stamp),
    /// Anything that is signed: repositories of a test suite, which know nothing of fleets. No client of a fleet is made
    /// with it.
    #[cfg(feature = "conformance")]
    Anything,
}

impl Expected {
    /// Checks that a file of metadata is; if not, why.
    pub(crate) fn fits(&self, file: &[u8]) -> std::result::Result<(), String> {
        match self {
            Self::Of(stamp) => stamp.fits(file),
            #[cfg(feature = "conformance")]
            Self::Anything => Ok(()),
        }
    }
}

/// A file of metadata as far as it is needed here. A member that is there twice is an error: another reader might take the
/// other one.
#[derive(Deserialize)]
struct File {
    signed: Members,
}

#[derive(Deserialize)]
struct Members {
    #[serde(rename = "x-bulkhead-repository")]
    repository: String,
    #[serde(rename = "x-bulkhead-fleet")]
    fleet: String,
}

impl Stamp {
    /// Of a new fleet.
    pub(crate) fn fleet() -> Result<String> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| Error::Asked(format!("no random numbers: {error}")))?;
        Ok(hex(&bytes))
    }

    fn new(repository: &str, fleet: &str) -> Option<Self> {
        let repository = Repository::ALL.into_iter().find(|known| known.name() == repository)?;
        let bytes = unhex(fleet).filter(|bytes| bytes.len() == LENGTH && hex(bytes) == fleet);
        bytes.map(|_| Self { repository, fleet: fleet.to_owned() })
    }

    /// That of a signed body.
    pub(crate) fn of(extra: &HashMap<String, Value>) -> Option<Self> {
        Self::new(extra.get(REPOSITORY)?.as_str()?, extra.get(FLEET)?.as_str()?)
    }

    /// That of a file of metadata, whoever has signed it; if there is none, why.
    pub(crate) fn read(file: &[u8]) -> std::result::Result<Self, String> {
        let File { signed } = serde_json::from_slice(file).map_err(|error| error.to_string())?;
        Self::new(&signed.repository, &signed.fleet)
            .ok_or_else(|| "it does not say of which fleet and repository it is".to_owned())
    }

    /// Checks that a file of metadata is of the same; if not, why.
    pub(crate) fn fits(&self, file: &[u8]) -> std::result::Result<(), String> {
        let found = Self::read(file)?;
        if found.fleet != self.fleet {
            return Err(format!("it is of another fleet, {}, and this is {}", found.fleet, self.fleet));
        }
        if found.repository != self.repository {
            return Err(format!("it is of {}", found.repository));
        }
        Ok(())
    }

    /// As members of a signed body.
    pub(crate) fn members(&self) -> HashMap<String, Value> {
        HashMap::from([
            (REPOSITORY.to_owned(), self.repository.name().into()),
            (FLEET.to_owned(), self.fleet.as_str().into()),
        ])
    }
}
