//! Names that are made of themselves, through others.

use std::collections::{HashMap, HashSet};

/// The names on a circle: each is among what it names, or what those name, and so on. One walk finds
/// them all (Tarjan's components), whatever the names are.
pub(super) fn cycles<'a>(parts: &HashMap<&'a str, Vec<&'a str>>) -> HashSet<&'a str> {
    let mut walk = Walk {
        parts,
        order: HashMap::new(),
        lowest: HashMap::new(),
        open: Vec::new(),
        circular: HashSet::new(),
    };
    for name in parts.keys() {
        if !walk.order.contains_key(name) {
            walk.from(name);
        }
    }
    walk.circular
}

struct Walk<'p, 'a> {
    parts: &'p HashMap<&'a str, Vec<&'a str>>,
    /// When each name was met.
    order: HashMap<&'a str, usize>,
    /// The earliest name that each is known to lead to; of names that are done, none.
    lowest: HashMap<&'a str, usize>,
    open: Vec<&'a str>,
    circular: HashSet<&'a str>,
}

impl<'a> Walk<'_, 'a> {
    fn from(&mut self, start: &'a str) {
        // Names, and how many of their parts were followed.
        let mut path: Vec<(&'a str, usize)> = vec![(start, 0)];
        while let Some((name, followed)) = path.last_mut() {
            let name = *name;
            if *followed == 0 && !self.order.contains_key(name) {
                let now = self.order.len();
                self.order.insert(name, now);
                self.lowest.insert(name, now);
                self.open.push(name);
            }
            let part = self.parts.get(name).and_then(|parts| parts.get(*followed)).copied();
            *followed += 1;
            match part {
                Some(part) if !self.order.contains_key(part) => path.push((part, 0)),
                Some(part) => {
                    let reached = self.lowest.get(part).map(|_| self.order[part]);
                    if part == name {
                        self.circular.insert(name);
                    }
                    self.lower(name, reached);
                }
                None => {
                    path.pop();
                    let lowest = self.lowest[name];
                    if let Some((before, _)) = path.last() {
                        self.lower(before, Some(lowest));
                    }
                    if lowest == self.order[name] {
                        self.close(name);
                    }
                }
            }
        }
    }

    fn lower(&mut self, name: &'a str, reached: Option<usize>) {
        if let (Some(lowest), Some(reached)) = (self.lowest.get_mut(name), reached) {
            *lowest = reached.min(*lowest);
        }
    }

    /// A component is whole: the names that were opened since its first.
    fn close(&mut self, first: &'a str) {
        let start = self.open.iter().rposition(|name| *name == first).unwrap_or(0);
        let component = self.open.split_off(start);
        for name in &component {
            self.lowest.remove(name);
        }
        if component.len() > 1 {
            self.circular.extend(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_on_a_circle_are_found_and_no_others() {
        let parts: HashMap<&str, Vec<&str>> = HashMap::from([
            ("a", vec!["b"]),
            ("b", vec!["c", "x"]),
            ("c", vec!["a"]),
            ("x", vec!["y"]),
            ("y", vec!["p", "nobody"]),
            ("p", vec!["q"]),
            ("q", vec!["p"]),
            ("self", vec!["self", "a"]),
            ("before", vec!["a", "x"]),
            ("alone", vec![]),
        ]);
        let mut found: Vec<&str> = cycles(&parts).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, ["a", "b", "c", "p", "q", "self"]);
    }

    #[test]
    fn a_long_chain_is_walked_once() {
        let names: Vec<String> = (0..200_000).map(|number| number.to_string()).collect();
        let mut parts: HashMap<&str, Vec<&str>> =
            names.windows(2).map(|pair| (&*pair[0], vec![&*pair[1]])).collect();
        assert!(cycles(&parts).is_empty());
        parts.insert(&names[199_999], vec![&names[0]]);
        assert_eq!(cycles(&parts).len(), names.len());
    }
}
