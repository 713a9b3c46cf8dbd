//! What was enforced, compiled with what the sources list now: all of it, or as much as can be.

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, common};
use bulkhead_policy::source::Source as Text;

use super::Sources;
use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::files::Files;
use crate::daemon::state::inputs::{CompileOptions, Inputs, Refused};

/// What there is to enforce.
pub struct Fit {
    /// Compiled.
    pub inputs: Inputs,
    /// Why it is not all that the sources list: whoever they list no more, or otherwise than before, is not in it.
    pub unfit: Option<Refused>,
}

impl Sources {
    /// Compiles files that were enforced before, with what the sources list now.
    ///
    /// # Errors
    /// What is wrong, if not even what they list as before can be enforced.
    pub fn fit(&self, files: Files, mode: Mode, options: &CompileOptions) -> Result<Fit, Refused> {
        let check = |files| Inputs::check_kept(files, mode, options, wall_time());
        let composed = self.add_to(files.clone());
        let refused = match check(composed.clone()) {
            Ok(inputs) => return Ok(Fit { inputs, unfit: None }),
            Err(refused) => refused,
        };
        if composed.inventory.text() == files.inventory.text() {
            return Err(refused);
        }
        let rest = keep_of(&files.inventory, &composed.inventory, &options.node);
        match rest.and_then(|inventory| check(Files { inventory, ..files }).ok()) {
            Some(inputs) => Ok(Fit { inputs, unfit: Some(refused) }),
            None => Err(refused),
        }
    }
}

/// What of an enforced inventory the sources still list so. Errors in either say nothing of who is listed: the result is
/// checked as any.
fn keep_of(enforced: &Text, composed: &Text, own: &str) -> Option<Text> {
    let read = |text: &Text| inventory::parse(text, &mut Findings::default());
    let text = common(&read(enforced)?, &read(composed)?, own);
    Some(Text::new(enforced.name(), &text))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use bulkhead_policy::Dialect;
    use bulkhead_policy::resolve::Exemptions;
    use bulkhead_sources::{Kind, Settings};

    use super::super::One;
    use super::super::state::{Asked, Heard};
    use super::*;
    use crate::daemon::state::addresses::Addresses;
    use crate::daemon::store::Store;

    const OWN: &str = r#"{"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]}"#;
    const WEB: &str = r#"{"name": "web-1", "addresses": ["100.64.0.2"], "tags": [], "routes": ["10.1.0.0/24"],
        "workloads": [{"name": "app", "addresses": ["10.1.0.5"], "tags": [], "match": {"unit": "app.service"}}]}"#;
    const N7: &str = r#"{"name": "n7", "addresses": ["100.64.0.7"], "tags": ["tag:a"]}"#;
    const N8: &str =
        r#"{"name": "n8", "addresses": ["100.64.0.8"], "tags": ["tag:a"], "routes": ["10.1.0.0/24"]}"#;
    const N9: &str = r#"{"name": "n9", "addresses": ["100.64.0.9"], "tags": ["tag:a"]}"#;

    fn list(nodes: &[&str]) -> Text {
        Text::new("i", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(", ")))
    }

    fn options() -> CompileOptions {
        CompileOptions {
            node: "a".to_owned(),
            dialect: Dialect::Bulkhead,
            table_memory: 1 << 20,
            has_exchange: false,
            has_local: false,
            exemptions: Exemptions::default(),
            addresses: Addresses::default(),
            grants: std::sync::Arc::default(),
        }
    }

    fn files(inventory: Text) -> Files {
        let policy = r#"{"tagOwners": {"tag:a": []}, "acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:a:80"]}]}"#;
        Files::new(Text::new("p", policy), inventory)
    }

    /// A source that has answered so.
    fn answered(nodes: &[&str], store: &Store) -> Sources {
        let kind = Kind::Directory { path: "/none".into() };
        let settings =
            Settings { name: "cmdb".to_owned(), every: Duration::from_secs(1), most_lost: 100, kind };
        let mut asked = Asked::default();
        let answer = inventory::parse(&list(nodes), &mut Findings::default()).unwrap();
        assert_eq!(asked.hear(&settings, Ok(answer), store), Heard::New);
        Sources { each: vec![One { settings, asked: Mutex::new(asked) }], ..Sources::default() }
    }

    fn names(inputs: &Inputs) -> Vec<&str> {
        inputs.inventory.nodes.iter().map(|node| &*node.name).collect()
    }

    #[test]
    fn a_node_that_rivals_a_workload_keeps_nobody_in_who_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let before = answered(&[N7, N9], &store).add_to(files(list(&[OWN, WEB])));
        let sources = answered(&[N8, N9], &store);
        for _ in 0..2 {
            let fit = sources.fit(before.clone(), Mode::Enforce, &options()).map_err(|e| e.text()).unwrap();
            assert!(fit.unfit.is_none());
            assert_eq!(names(&fit.inputs), ["a", "web-1", "web-1/app", "n9"]);
            assert_eq!((sources.status()[0].left_out_count, fit.inputs.problems.len()), (1, 0));
        }
    }

    #[test]
    fn whoever_is_gone_is_cut_off_whatever_is_wrong_with_what_is_listed() {
        let of_source = |node: &str| node.replacen('{', r#"{"source": "cmdb", "#, 1);
        let [n7, n8, n9] = [N7, N8, N9].map(of_source);
        let enforced = list(&[OWN, WEB, &n7, &n9]);
        // A node that rivals a workload, and one with a field that nobody knows.
        for wrong in [n8, n7.replace("n7", "n6").replace("100.64.0.7", "100.64.0.6").replace("tags", "tag")] {
            let composed = list(&[OWN, WEB, &wrong, &n9]);
            let mut findings = Findings::default();
            inventory::parse(&composed, &mut findings);
            assert!(findings.has_errors(), "{wrong}");
            let kept = keep_of(&enforced, &composed, "a").unwrap();
            let checked = Inputs::check_kept(files(kept), Mode::Enforce, &options(), wall_time());
            let checked = checked.map_err(|refused| refused.text()).unwrap();
            assert_eq!(names(&checked), ["a", "web-1", "web-1/app", "n9"]);
        }
    }

    #[test]
    fn what_an_earlier_agent_enforced_goes_on_and_new_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let sources = answered(&[N9], &store);
        let rival = N8.replace("n8", "r");
        let loopback = WEB.replace("10.1.0.0/24", "127.0.0.0/8").replace("10.1.0.5", "127.0.0.5");
        let slice = WEB.replace("app.service", "system.slice");
        for (nodes, words) in [
            (vec![OWN, WEB, &*rival], "is in a route of r as well"),
            (vec![OWN, &loopback], "is a loopback address"),
            (vec![OWN, &slice], "would take /system.slice along"),
        ] {
            let old = files(list(&nodes));
            let now = wall_time();
            let fit = sources.fit(old.clone(), Mode::Enforce, &options()).map_err(|e| e.text()).unwrap();
            assert!(fit.unfit.is_none());
            let [problem] = &fit.inputs.problems[..] else { panic!("{:?}", fit.inputs.problems) };
            assert!(problem.contains(words), "{problem}");
            // Nothing of it is lost, and sources are followed.
            assert!(fit.inputs.inventory.node("n9").is_some());
            let app = fit.inputs.inventory.node("web-1/app").unwrap();
            assert_eq!((app.addresses.len(), app.workload.as_ref().unwrap().matches.units.len()), (1, 1));
            Inputs::compile(fit.inputs.files, Mode::Enforce, &options()).map_err(|e| e.text()).unwrap();
            for new in [old.clone(), sources.add_to(old)] {
                let refused = Inputs::check(new, Mode::Enforce, &options(), now).err().unwrap();
                assert!(refused.text().contains(words), "{}", refused.text());
            }
        }
        // Any other error still is one.
        let wrong = OWN.replace("tags", "tag");
        assert!(Inputs::check_kept(files(list(&[&wrong])), Mode::Enforce, &options(), 0).is_err());
    }
}
