//! What is compared with is what was approved: recorded files that somebody has changed are not enforced, and what
//! enforces behind a staged policy is compared as well.

use std::path::PathBuf;

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::loaded_programs;

use super::memory::Memory;
use super::{DENY, arrives, compiled, denying_cell, let_in, live, pin, site};
use crate::site::account::number;
use crate::site::{OTHER, Over, Site, WEB, policy};

#[test]
fn changed_records_are_not_enforced_in_the_place_of_changed_tables() {
    let mut site = site("recorded", 1);
    let (_, _, program) = compiled(&site);
    let generation = number(&site.status()["agent"]["generation"]);
    let record = PathBuf::from("/var/lib/bulkhead")
        .join(site.instance())
        .join(format!("generation-{generation}"))
        .join("inventory");
    let recorded = std::fs::read_to_string(&record).unwrap();
    // Rules are the same by then, but the stranger is another one.
    let changed = recorded.replace("tag:stranger", "tag:client");
    assert_ne!(changed, recorded);
    std::fs::write(&record, changed).unwrap();
    site.wait_for("it cannot be compared", |status| {
        status["agent"]["read_back"]["failure"].as_str().is_some_and(|why| why.contains("changed"))
    });
    let_in(&Memory::open(&pin(&site, "CELLS")), denying_cell(&program));
    let looked =
        |status: &serde_json::Value| status["agent"]["read_back"]["time"].as_str().map(str::to_owned);
    let before = looked(&site.status());
    site.wait_for("it has looked again", |status| looked(status) != before);
    assert_eq!(
        number(&site.status()["agent"]["generation"]),
        generation,
        "nothing is built from changed files"
    );
    assert_eq!(site.bulkhead(&["audit", "live"]).status.code(), Some(2));
    site.done(&["apply"]);
    assert!(!arrives(&site, "stranger") && arrives(&site, "client"));
    assert_eq!(live(&site).1, Some(0));
}

#[test]
fn what_enforces_behind_a_staged_policy_is_compared() {
    let mut site = Site::new("behind", Over::Tunnel, &[DENY, WEB]);
    let interface = site.interface();
    site.write(
        "agent.toml",
        &(site.configuration("server", interface) + "[limits]\nread_back_seconds = 0\n"),
    );
    site.start();
    site.write("candidate.hujson", &policy(&[OTHER]));
    site.done(&["stage", &site.path("candidate.hujson")]);
    let (said, code) = live(&site);
    assert_eq!(code, Some(0), "{said}");
    // Who leaves is judged in the place of who comes.
    let map = Map::ProgramArray(MapData::from_pin(pin(&site, "TC_ENFORCED-0")).unwrap());
    let mut enforced: ProgramArray<MapData> = map.try_into().unwrap();
    let behind = &site.status()["agent"]["interfaces"][0]["enforcing"];
    let [comes, leaves] = [0, 1].map(|place| number(&behind[place]));
    let program = |wanted: u64| {
        let found = loaded_programs().flatten().find(|info| u64::from(info.id()) == wanted);
        found.unwrap().fd().unwrap()
    };
    enforced.set(0, &program(leaves), 0).unwrap();
    let (said, code) = live(&site);
    assert_eq!(code, Some(1), "{said}");
    let found = &said["differences"][0];
    assert!(
        found["table"] == "program"
            && found["expected"].as_str().unwrap().starts_with(&format!("program {comes} behind program "))
            && found["found"].as_str().unwrap().starts_with(&format!("program {leaves}, tag ")),
        "{said}"
    );
    enforced.clear_index(&0).unwrap();
    let (said, code) = live(&site);
    assert_eq!(code, Some(1), "{said}");
    enforced.set(0, &program(comes), 0).unwrap();
    assert_eq!(live(&site).1, Some(0));
}
