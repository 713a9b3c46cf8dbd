//! What of an inventory holds at a time: attributes of devices end when it was said that they would, whether or not
//! somebody can be asked then.

use super::Inventory;

impl Inventory {
    /// How many attributes have ended by a time, ns since the Unix epoch.
    #[must_use]
    pub fn ended(&self, now: u64) -> usize {
        self.nodes.iter().flat_map(|node| node.posture_expires.values()).filter(|end| **end <= now).count()
    }

    /// Its nodes at a time, ns since the Unix epoch, without the attributes that have ended, nor when others will.
    #[must_use]
    pub fn at(&self, now: u64) -> Self {
        let mut at = self.clone();
        for node in &mut at.nodes {
            for (name, end) in std::mem::take(&mut node.posture_expires) {
                if end <= now {
                    node.posture.remove(&name);
                }
            }
        }
        at
    }
}
