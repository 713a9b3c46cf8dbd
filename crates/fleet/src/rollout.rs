//! Which hosts take a new version first.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The member of the signed timestamp.
pub(crate) const MEMBER: &str = "x-bulkhead-rollout";

/// How many of all hosts may take a version: whoever freshens says so, and can only have it taken later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version of the targets.
    pub version: u64,
    /// Hosts of a hundred, 0 to 100.
    pub share: u8,
}

impl Rollout {
    /// Reads the member. One that is no rollout lets nobody take anything new: who wrote it meant fewer than all.
    pub(crate) fn read(member: Option<&Value>, version: u64) -> Option<Self> {
        let member = member?;
        let none = Self { version, share: 0 };
        Some(
            serde_json::from_value(member.clone())
                .ok()
                .filter(|read: &Self| read.share <= 100)
                .unwrap_or(none),
        )
    }

    /// Whether a host takes a version. A rollout of an earlier version says nothing of a later one, which nobody has let
    /// go to all: it waits.
    #[must_use]
    pub fn admits(&self, node: &str, version: u64) -> bool {
        self.version == version && slot(node, version) < self.share
    }
}

/// Where a host stands among a hundred, 0 to 99, for one version: other hosts come first each time.
#[must_use]
pub fn slot(node: &str, version: u64) -> u8 {
    let digest =
        Sha256::new().chain_update(node).chain_update(b"\n").chain_update(version.to_string()).finalize();
    let head = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    (head % 100) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Rollout, slot};

    #[test]
    fn a_share_is_about_that_many_hosts() {
        let takes = |share| {
            let rollout = Rollout { version: 7, share };
            (0..10_000).filter(|number| rollout.admits(&format!("node-{number}"), 7)).count()
        };
        assert_eq!((takes(0), takes(100)), (0, 10_000));
        assert!((850..1150).contains(&takes(10)), "{}", takes(10));
    }

    #[test]
    fn what_is_no_rollout_lets_nobody_take_anything() {
        assert_eq!(Rollout::read(None, 3), None);
        for member in
            [json!({}), json!({"version": 3, "share": 101}), json!({"version": 3, "share": -1}), json!("all")]
        {
            assert_eq!(Rollout::read(Some(&member), 3), Some(Rollout { version: 3, share: 0 }), "{member}");
        }
        let read = Rollout::read(Some(&json!({"version": 3, "share": 5})), 3);
        assert_eq!(read, Some(Rollout { version: 3, share: 5 }));
    }

    proptest! {
        #[test]
        fn whoever_takes_it_at_a_share_takes_it_at_a_larger_one(node in "[a-z0-9-]{1,40}", version in 1_u64.., share in 0_u8..100) {
            let admits = |share| Rollout { version, share }.admits(&node, version);
            prop_assert!(!admits(share) || admits(share + 1));
            prop_assert!(slot(&node, version) < 100);
            let other = Rollout { version, share: 100 };
            prop_assert!(!other.admits(&node, version.wrapping_add(1)));
        }
    }
}
