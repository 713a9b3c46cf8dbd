//! Which cgroups a host's workloads are now.

use std::collections::BTreeMap;

use bulkhead_policy::compile::Workloads;

use super::tree::{Cgroup, Tree};

/// What was found of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its cgroup.
    Running(Cgroup),
    /// None matches: its unit does not run.
    NotRunning,
    /// Several match, none of which lies above the others.
    Several(Vec<Cgroup>),
    /// Its cgroup is another workload's, or lies in one, or one in it: that one's name, and its cgroup.
    Overlaps(String, Cgroup),
}

impl Found {
    /// Its cgroup's id and how far below the root it lies, if it may use its addresses.
    pub fn holder(&self) -> Option<(u64, u32)> {
        match self {
            Self::Running(cgroup) => Some((cgroup.id, cgroup.level)),
            _ => None,
        }
    }

    /// Every cgroup that may be it: whose sockets are not the host's in any case.
    pub fn cgroups(&self) -> &[Cgroup] {
        match self {
            Self::Running(cgroup) | Self::Overlaps(_, cgroup) => std::slice::from_ref(cgroup),
            Self::Several(cgroups) => cgroups,
            Self::NotRunning => &[],
        }
    }

    /// What an operator is told.
    pub fn problem(&self, workload: &str) -> Option<String> {
        match self {
            Self::Running(_) | Self::NotRunning => None,
            Self::Several(cgroups) => Some(format!(
                "workload {workload}: its `match` holds of {} cgroups that are not within one ({}), so that nobody has its \
                 addresses; name one, or a slice that they are in",
                cgroups.len(),
                cgroups.iter().map(|cgroup| cgroup.path.as_str()).collect::<Vec<_>>().join(", ")
            )),
            Self::Overlaps(other, cgroup) => Some(format!(
                "workload {workload}: its cgroup {} is {other}'s as well, so that nobody has the addresses of either; \
                 change their `match`",
                cgroup.path
            )),
        }
    }
}

/// What is found of each workload, by its name.
pub fn find(workloads: &Workloads, tree: &Tree) -> BTreeMap<String, Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for workload in &workloads.each {
        let mut matching = tree.cgroups.iter().filter(|cgroup| workload.matches.is(&cgroup.path));
        // In the order of paths what lies above comes first.
        let outermost = matching.next().cloned();
        let of = match outermost {
            None => Found::NotRunning,
            Some(outermost) => {
                let mut all = vec![outermost];
                for cgroup in matching {
                    if all.iter().all(|above| !is_within(&cgroup.path, &above.path)) {
                        all.push(cgroup.clone());
                    }
                }
                match &mut all[..] {
                    [one] => Found::Running(one.clone()),
                    _ => Found::Several(all),
                }
            }
        };
        found.insert(workload.name.clone(), of);
    }
    for (name, other, cgroup) in overlaps(&found) {
        found.insert(name, Found::Overlaps(other, cgroup));
    }
    found
}

/// Workloads whose cgroups are not apart: each with another one, and its own cgroup.
fn overlaps(found: &BTreeMap<String, Found>) -> Vec<(String, String, Cgroup)> {
    let running = || {
        found.iter().filter_map(|(name, found)| match found {
            Found::Running(cgroup) => Some((name, cgroup)),
            _ => None,
        })
    };
    let mut overlapping = Vec::new();
    for (name, cgroup) in running() {
        let other = running().find(|(other, above)| {
            *other != name && (is_within(&cgroup.path, &above.path) || is_within(&above.path, &cgroup.path))
        });
        overlapping.extend(other.map(|(other, _)| (name.clone(), other.clone(), cgroup.clone())));
    }
    overlapping
}

/// Whether a path is another, or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::compile::{CompiledWorkload, Workloads};
    use bulkhead_policy::inventory::Matches;

    use super::{Cgroup, Found, Tree, find};

    fn tree(paths: &[&str]) -> Tree {
        let cgroups = paths.iter().zip(2..).map(|(path, id)| Cgroup {
            path: (*path).to_owned(),
            id,
            level: path.matches('/').count() as u32,
        });
        let mut cgroups: Vec<_> = cgroups.collect();
        cgroups.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { last: cgroups.len() as u64 + 1, cgroups }
    }

    fn workload(name: &str, units: &[&str], cgroups: &[&str]) -> CompiledWorkload {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CompiledWorkload {
            name: name.to_owned(),
            addresses: Vec::new(),
            classes: Vec::new(),
            matches: Matches { units: owned(units), cgroups: owned(cgroups) },
        }
    }

    fn of(each: Vec<CompiledWorkload>, paths: &[&str], name: &str) -> Found {
        find(&Workloads { each, ..Workloads::default() }, &tree(paths))[name].clone()
    }

    #[test]
    fn a_workload_is_the_outermost_cgroup_that_matches() {
        let engine = || workload("h/engine", &["engine.service"], &["/ci.slice/*"]);
        assert_eq!(of(vec![engine()], &["/a", "/engine.services"], "h/engine"), Found::NotRunning);
        let Found::Running(cgroup) = of(
            vec![engine()],
            &["/a", "/a/engine.service", "/a/engine.service/b/engine.service"],
            "h/engine",
        ) else {
            panic!("it runs")
        };
        assert_eq!((cgroup.path.as_str(), cgroup.level), ("/a/engine.service", 2));
        let several = of(vec![engine()], &["/a/engine.service", "/b/engine.service"], "h/engine");
        assert_eq!(several.holder(), None);
        assert!(several.problem("h/engine").unwrap().contains("/a/engine.service, /b/engine.service"));
        assert!(matches!(of(vec![engine()], &["/ci.slice/1", "/ci.slice/2"], "h/engine"), Found::Several(_)));
    }

    #[test]
    fn workloads_that_overlap_have_their_addresses_taken() {
        let each = || {
            vec![
                workload("h/a", &["a.service"], &[]),
                workload("h/b", &[], &["/x/a.service/*"]),
                workload("h/c", &["c.service"], &[]),
            ]
        };
        let paths = ["/x/a.service", "/x/a.service/y", "/c.service"];
        for name in ["h/a", "h/b"] {
            let found = of(each(), &paths, name);
            assert!(found.holder().is_none() && found.problem(name).is_some(), "{found:?}");
        }
        assert!(of(each(), &paths, "h/c").holder().is_some());
        assert!(of(each(), &["/x/a.service", "/x/a.service2/y"], "h/a").holder().is_some());
    }
}
