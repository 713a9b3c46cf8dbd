//! Workloads: parts of a host that are identities of their own.

use std::net::IpAddr;

use super::spiffe::SpiffeId;
use super::{Inventory, Node};

/// What makes a [`Node`] a workload of a host. Its name is `HOST/WORKLOAD`, its addresses are its own, of its tags none
/// is its host's, and it has neither key nor routes nor underlay addresses. Posture, source and being jailed are its
/// host's; it expires with its host, or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The host's name.
    pub host: String,
    /// What it is called on its host.
    pub name: String,
    /// Its SPIFFE ID. A name: nothing here checks that a certificate with it is presented.
    pub spiffe: Option<SpiffeId>,
    /// When it expires itself, whatever becomes of its host, ns since the Unix epoch.
    pub expires: Option<u64>,
    /// Which cgroups of the host it is.
    pub matches: Matches,
}

/// Which cgroups of a host are a workload. A cgroup that matches is the workload's with everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Names of systemd units, each with its type: a cgroup directory of that name, below nothing but slices. What users
    /// and containers make lies below a service or a scope.
    pub units: Vec<String>,
    /// Patterns of whole paths below the mount point of cgroup2, each beginning with `/`; `*` stands for any characters
    /// of one component.
    pub cgroups: Vec<String>,
}

impl Matches {
    /// Whether it is about the cgroup of a path, which begins with `/` and is below the mount point of cgroup2.
    #[must_use]
    pub fn is(&self, path: &str) -> bool {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_of_host = || above.split('/').skip(1).all(|component| component.ends_with(".slice"));
        self.units.iter().any(|unit| unit == name) && is_of_host()
            || self.cgroups.iter().any(|pattern| pattern_matches(pattern, path))
    }
}

/// Whether a pattern matches a whole path, component by component.
#[must_use]
pub fn pattern_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut components) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), components.next()) {
            (None, None) => return true,
            (Some(pattern), Some(component)) if component_matches(pattern, component) => {}
            _ => return false,
        }
    }
}

/// Whether a component, in which `*` stands for any characters, matches another.
fn component_matches(pattern: &str, component: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = component.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

impl Node {
    /// The host that it is on: of a workload another node's name, else its own.
    #[must_use]
    pub fn host(&self) -> &str {
        self.workload.as_ref().map_or(&self.name, |workload| &workload.host)
    }

    /// Its SPIFFE ID, if it is a workload that has one.
    #[must_use]
    pub fn spiffe(&self) -> Option<&SpiffeId> {
        self.workload.as_ref()?.spiffe.as_ref()
    }
}

impl Inventory {
    /// The workloads of a host, in the file's order.
    pub fn workloads_of<'i>(&'i self, host: &'i str) -> impl Iterator<Item = &'i Node> + Clone {
        let of = move |index: &u32| {
            let node = &self.nodes[*index as usize];
            node.workload.as_ref().filter(|workload| workload.host == host).map(|_| node)
        };
        // By host and place, so that the file's order is kept.
        let first = self.by_host.partition_point(|index| self.nodes[*index as usize].host() < host);
        self.by_host[first..].iter().map_while(of)
    }

    /// The host of a node: of a workload the node that it is on, else itself.
    #[must_use]
    pub fn host_of<'i>(&'i self, node: &'i Node) -> &'i Node {
        node.workload.as_ref().and_then(|workload| self.node(&workload.host)).unwrap_or(node)
    }

    /// Every overlay address of a host and of its workloads.
    pub fn overlay_addresses<'i>(&'i self, host: &'i Node) -> impl Iterator<Item = IpAddr> + 'i {
        std::iter::once(host)
            .chain(self.workloads_of(&host.name))
            .flat_map(|node| node.addresses.iter().copied())
    }

    /// Every key by which a node's addresses are routed: its own, and of a workload its host's.
    #[must_use]
    pub fn keys_of(&self, node: &Node) -> Vec<[u8; 32]> {
        self.host_of(node).own_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Matches, pattern_matches};

    #[test]
    fn a_star_stands_for_characters_of_one_component() {
        for (pattern, path, is) in [
            ("/ci.slice/job-*.scope", "/ci.slice/job-1.scope", true),
            ("/ci.slice/job-*.scope", "/ci.slice/job-.scope", true),
            ("/ci.slice/job-*.scope", "/ci.slice/job-1.scope/inner", false),
            ("/ci.slice/job-*.scope", "/ci.slice/a/job-1.scope", false),
            ("/*/a", "/b/a", true),
            ("/*/a", "/a", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/ac", false),
            ("/aba*aba", "/aba", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/*", "/", true),
        ] {
            assert_eq!(pattern_matches(pattern, path), is, "{pattern} {path}");
        }
    }

    #[test]
    fn a_unit_is_a_directory_of_its_name_below_slices() {
        let matches = Matches { units: vec!["engine.service".into()], cgroups: vec!["/x/*".into()] };
        for path in
            ["/system.slice/engine.service", "/engine.service", "/a.slice/a-b.slice/engine.service", "/x/y"]
        {
            assert!(matches.is(path), "{path}");
        }
        for path in [
            "/system.slice/engine.service/inner",
            "/system.slice/an-engine.service",
            "/user.slice/user-9.slice/user@9.service/app.slice/engine.service",
            "/system.slice/docker-1.scope/system.slice/engine.service",
            "/system.slice/engine.service/engine.service",
            "/docker/engine.service",
            "/x/y/z",
        ] {
            assert!(!matches.is(path), "{path}");
        }
    }
}
