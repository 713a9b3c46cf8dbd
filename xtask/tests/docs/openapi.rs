//! The document of the agent's socket is what its types say, and has every route that is served.

use std::collections::BTreeMap;

use bulkhead_api::route::Right;
use bulkhead_api::schema::{ROUTES, text};

use crate::markdown::{read, root};

/// `cargo xtask openapi` writes it again.
#[test]
fn the_document_is_what_the_types_say() {
    let committed = read(&root().join("docs/reference/openapi.json"));
    assert!(committed == text(), "docs/reference/openapi.json is of other types: run `cargo xtask openapi`");
}

/// What is between `start` and `end`, for each `start` in a text.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

/// Routes have a constant each, the agent serves each of them by its method, and the document has them all.
#[test]
fn every_route_is_served_and_described() {
    let constants = read(&root().join("crates/api/src/route.rs"));
    let paths: BTreeMap<&str, &str> = between(&constants, "pub const ", ";")
        .into_iter()
        .filter_map(|constant| {
            let (name, path) = constant.split_once(": &str = \"")?;
            Some((name, path.trim_end_matches('"')))
        })
        .collect();
    assert!(paths.len() >= 16, "{paths:?}");
    let server = read(&root().join("agent/src/daemon/server/mod.rs"));
    let served: BTreeMap<&str, &str> = between(&server, ".route(", "(")
        .into_iter()
        .map(|route| {
            let (name, method) = route.split_once(", ").expect("a path and a method");
            let name = name.strip_prefix("route::").expect("a constant of crates/api/src/route.rs");
            (paths[name], method)
        })
        .collect();
    let method = |right| if right == Right::Read { "get" } else { "post" };
    let described: BTreeMap<&str, &str> =
        ROUTES.iter().map(|route| (route.path, method(route.right))).collect();
    assert_eq!(described.len(), ROUTES.len(), "each is described once");
    assert_eq!(described, served, "crates/api/src/schema/routes.rs describes what the agent serves");
    assert_eq!(described.keys().collect::<Vec<_>>(), {
        let mut all: Vec<_> = paths.values().collect();
        all.sort();
        all
    });
    let page = read(&root().join("docs/reference/socket.md"));
    for (path, method) in described {
        let row = format!("| `{} {path}", method.to_uppercase());
        assert!(page.contains(&row), "docs/reference/socket.md has no row that begins with {row}");
    }
}
