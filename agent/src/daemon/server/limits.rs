//! How many may talk to the agent at a time: nobody takes the places of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::peer::is_owner;
use crate::daemon::state::held;

/// Connections of one user.
pub const OF_ONE: usize = 64;

/// Connections of all users but root and the agent's own, whose places these never take.
pub const OF_OTHERS: usize = 192;

/// The connections that are open, by user.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<u32, usize>>);

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    uid: u32,
    connections: Arc<Connections>,
}

impl Connections {
    /// A place for a connection of a user; none if there are enough.
    pub fn place(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut open = held(&self.0);
        let others: usize = open.iter().filter(|(uid, _)| !is_owner(**uid)).map(|(_, count)| count).sum();
        let own = open.get(&uid).copied().unwrap_or(0);
        if own >= OF_ONE || (!is_owner(uid) && others >= OF_OTHERS) {
            return None;
        }
        open.insert(uid, own + 1);
        Some(Place { uid, connections: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = held(&self.connections.0);
        match open.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Connections, OF_ONE, OF_OTHERS};

    #[test]
    fn nobody_takes_the_places_of_others() {
        let connections = Arc::new(Connections::default());
        let of =
            |uid: u32| std::iter::from_fn(|| connections.place(uid)).take(2 * OF_ONE).collect::<Vec<_>>();
        let one = of(1001);
        assert_eq!(one.len(), OF_ONE);
        let more: Vec<_> = (1002..1012).map(of).collect();
        assert_eq!(one.len() + more.iter().map(Vec::len).sum::<usize>(), OF_OTHERS);
        let root = of(0);
        assert_eq!(root.len(), OF_ONE, "root has places of its own");
        assert!(connections.place(1001).is_none() && connections.place(0).is_none());
        drop((one, more));
        assert_eq!(of(1001).len(), OF_ONE, "who leaves makes room");
        drop(root);
        assert!(super::held(&connections.0).is_empty(), "and is forgotten");
    }
}
