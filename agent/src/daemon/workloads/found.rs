//! Which cgroups a host's workloads are now.

use std::collections::BTreeMap;

use bulkhead_policy::compile::{CompiledWorkload, Workloads};

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
        let mut matching = matching(workload, tree).filter(|cgroup| may_be(cgroup));
        // In the order of paths what lies above comes first.
        let outermost = matching.next().cloned();
        let of = match outermost {
            None => Found::NotRunning,
            Some(outermost) => {
                let mut all = vec![outermost];
                for cgroup in matching {
                    if all.iter().all(|above| !is_within(cgroup, above)) {
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
        let other = running()
            .find(|(other, above)| *other != name && (is_within(cgroup, above) || is_within(above, cgroup)));
        overlapping.extend(other.map(|(other, _)| (name.clone(), other.clone(), cgroup.clone())));
    }
    overlapping
}

fn matching<'t>(workload: &CompiledWorkload, tree: &'t Tree) -> impl Iterator<Item = &'t Cgroup> {
    tree.cgroups.iter().filter(|cgroup| workload.matches.is(&cgroup.path))
}

/// Whether a cgroup may be a workload: root's alone, and not one that would take the agent along.
const fn may_be(cgroup: &Cgroup) -> bool {
    cgroup.is_roots && !cgroup.is_agents
}

/// What an operator should know of `match`: cgroups that it holds of and that are no workload, since somebody else than
/// root has made them, or may make others beside, or since the agent is in them; and a workload that sshd is in.
pub fn warnings(workloads: &Workloads, tree: &Tree, found: &BTreeMap<String, Found>) -> Vec<String> {
    let of = |workload: &CompiledWorkload| {
        let mut others = matching(workload, tree).filter(|cgroup| !may_be(cgroup));
        let first = others.next()?;
        let more = match others.count() {
            0 => String::new(),
            count => format!(", and {count} more"),
        };
        let why = if first.is_agents {
            "the agent itself is in it"
        } else {
            "it, or one above it, is not root's, as of a service with Delegate= and User="
        };
        Some(format!(
            "workload {}: its `match` holds of the cgroup {}{more}, which is not the workload but the host's: {why}",
            workload.name, first.path
        ))
    };
    let taken = |(name, found): (&String, &Found)| {
        let within =
            |sshd: &&Cgroup| found.cgroups().iter().any(|own| sshd.level > own.level && is_within(sshd, own));
        let sshd =
            tree.cgroups.iter().filter(|cgroup| SSHD.iter().any(|name| cgroup.directory.ends_with(name)));
        let sshd = sshd.clone().find(within)?;
        Some(format!(
            "workload {name}: sshd is in it ({}), so that nobody logs in by the host's own overlay address; move it to \
             another slice, or name it alone",
            sshd.path
        ))
    };
    workloads.each.iter().filter_map(of).chain(found.iter().filter_map(taken)).collect()
}

/// Units of sshd, as distributions name them.
const SSHD: [&str; 4] = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];

/// Whether a cgroup is another, or lies below it.
fn is_within(cgroup: &Cgroup, above: &Cgroup) -> bool {
    cgroup.directory.starts_with(&above.directory)
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::compile::{CompiledWorkload, Workloads};
    use bulkhead_policy::inventory::Matches;

    use super::{Cgroup, Found, Tree, find, warnings};

    fn tree(paths: &[&str]) -> Tree {
        let cgroups = paths.iter().zip(2..).map(|(path, id)| Cgroup {
            path: (*path).to_owned(),
            directory: path.trim_start_matches('/').into(),
            id,
            is_roots: !path.contains("user@"),
            is_agents: "/agents.slice/bulkhead.service".starts_with(path),
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
            &["/a.slice", "/a.slice/engine.service", "/a.slice/engine.service/b/engine.service"],
            "h/engine",
        ) else {
            panic!("it runs")
        };
        assert_eq!((cgroup.path.as_str(), cgroup.level), ("/a.slice/engine.service", 2));
        let several = of(vec![engine()], &["/a.slice/engine.service", "/b.slice/engine.service"], "h/engine");
        assert_eq!(several.holder(), None);
        assert!(
            several.problem("h/engine").unwrap().contains("/a.slice/engine.service, /b.slice/engine.service")
        );
        assert!(matches!(of(vec![engine()], &["/ci.slice/1", "/ci.slice/2"], "h/engine"), Found::Several(_)));
    }

    #[test]
    fn what_is_not_roots_is_no_workload() {
        let engine = || workload("h/engine", &["engine.service"], &["/u.slice/*/app"]);
        let paths = ["/s.slice/engine.service", "/u.slice/user@1/app", "/u.slice/user@2/app"];
        let Found::Running(cgroup) = of(vec![engine()], &paths, "h/engine") else { panic!("it runs") };
        assert_eq!(cgroup.path, "/s.slice/engine.service");
        assert_eq!(of(vec![engine()], &paths[1..], "h/engine"), Found::NotRunning);
        let told = |paths: &[&str]| {
            let (workloads, tree) = (Workloads { each: vec![engine()], ..Workloads::default() }, tree(paths));
            warnings(&workloads, &tree, &find(&workloads, &tree)).concat()
        };
        assert!(told(&paths).contains("/u.slice/user@1/app, and 1 more"), "{}", told(&paths));
        assert_eq!(told(&paths[..1]), "");
    }

    #[test]
    fn nobody_is_locked_out_by_a_match_unawares() {
        let each =
            || vec![workload("h/all", &[], &["/agents.slice"]), workload("h/ops", &["ops.slice"], &[])];
        let workloads = Workloads { each: each(), ..Workloads::default() };
        let tree = tree(&[
            "/agents.slice",
            "/agents.slice/bulkhead.service",
            "/ops.slice",
            "/ops.slice/sshd.service",
        ]);
        let found = find(&workloads, &tree);
        assert_eq!(found["h/all"], Found::NotRunning, "the agent is not to be a workload");
        assert!(found["h/ops"].holder().is_some());
        let told = warnings(&workloads, &tree, &found);
        let [agent, sshd] = &told[..] else { panic!("{told:?}") };
        assert!(agent.contains("/agents.slice, which") && agent.contains("the agent itself"), "{agent}");
        assert!(sshd.contains("/ops.slice/sshd.service") && sshd.starts_with("workload h/ops"), "{sshd}");
        // By its own name it is meant.
        let workloads =
            Workloads { each: vec![workload("h/ssh", &["sshd.service"], &[])], ..Workloads::default() };
        assert!(warnings(&workloads, &tree, &find(&workloads, &tree)).is_empty());
    }

    #[test]
    fn workloads_that_overlap_have_their_addresses_taken() {
        let each = || {
            vec![
                workload("h/a", &["a.service"], &[]),
                workload("h/b", &[], &["/x.slice/a.service/*"]),
                workload("h/c", &["c.service"], &[]),
            ]
        };
        let paths = ["/x.slice/a.service", "/x.slice/a.service/y", "/c.service"];
        for name in ["h/a", "h/b"] {
            let found = of(each(), &paths, name);
            assert!(found.holder().is_none() && found.problem(name).is_some(), "{found:?}");
        }
        assert!(of(each(), &paths, "h/c").holder().is_some());
        assert!(of(each(), &["/x.slice/a.service", "/x.slice/a.service2/y"], "h/a").holder().is_some());
    }
}
