//! IP sets → address sets.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::address::AddressSet;
use crate::frontend::policy::Policy;
use crate::frontend::policy::ipset::Target;

/// What `autogroup:internet` means: everything that is not private, shared or link-local.
pub(super) fn internet() -> AddressSet {
    let nets = |texts: &[&str]| {
        let nets: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        AddressSet::from_prefixes(&nets)
    };
    let private = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
    nets(&["0.0.0.0/0", "2000::/3"]).minus(&nets(&private))
}

/// The IP sets, each worked out after those that it names. What names itself through others stays
/// out, as what does not exist does: `names` refuses both.
pub(crate) fn ipsets(policy: &Policy) -> HashMap<&str, AddressSet> {
    let hosts = policy.hosts.iter().map(|(name, net)| (name.value.as_str(), *net)).collect();
    let mut all: HashMap<&str, AddressSet> = HashMap::new();
    // For each set, those that name it, and how many that it names are not worked out.
    let mut heirs: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut waiting = vec![0; policy.ipsets.len()];
    for (index, (_, steps)) in policy.ipsets.iter().enumerate() {
        for step in steps {
            if let Target::Set(part) = &step.value.target {
                heirs.entry(part).or_default().push(index);
                waiting[index] += 1;
            }
        }
    }
    let mut ready: Vec<usize> = (0..waiting.len()).filter(|index| waiting[*index] == 0).collect();
    while let Some(index) = ready.pop() {
        let (name, steps) = &policy.ipsets[index];
        let made = steps.iter().try_fold(AddressSet::default(), |set, step| {
            let target = target(&step.value.target, &hosts, &all)?;
            Some(if step.value.remove { set.minus(&target) } else { set.union(&target) })
        });
        let Some(set) = made else { continue };
        all.insert(&name.value, set);
        for heir in heirs.get(name.value.as_str()).into_iter().flatten() {
            waiting[*heir] -= 1;
            if waiting[*heir] == 0 {
                ready.push(*heir);
            }
        }
    }
    all
}

/// What a step is about, with the hosts and the sets that are worked out; none if it is not among them.
pub(super) fn target(
    target: &Target,
    hosts: &HashMap<&str, IpNet>,
    sets: &HashMap<&str, AddressSet>,
) -> Option<AddressSet> {
    match target {
        Target::Range(first, last) => Some(AddressSet::from_ranges([(*first, *last)])),
        Target::Host(name) => hosts.get(name.as_str()).map(|net| AddressSet::from_prefixes([net])),
        Target::Set(name) => sets.get(name.as_str()).cloned(),
        Target::Internet => Some(internet()),
    }
}
