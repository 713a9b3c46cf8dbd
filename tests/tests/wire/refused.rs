//! An enforced program that the staged one cannot go on with: the packet is dropped.

use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, ProgramArray};

use crate::site::account::drops;
use crate::site::{OTHER, Over, Site, WEB, policy};

/// The tables through which an interface's staged program go on with the enforced ones.
fn chains(site: &Site) -> Vec<PathBuf> {
    let status = site.status();
    let generation = &status["generations"][0];
    let tables = site.layout().join(format!("generation-{generation}"));
    ["XDP_ENFORCED-0", "TC_ENFORCED-0"].map(|name| tables.join(name)).into()
}

/// Takes every program out of such a table; how many there were.
fn empty(chain: &Path) -> usize {
    let data = MapData::from_pin(chain).unwrap();
    let entries = data.info().unwrap().max_entries();
    let mut programs: ProgramArray<MapData> = Map::ProgramArray(data).try_into().unwrap();
    (0..entries).filter(|index| programs.clear_index(index).is_ok()).count()
}

#[test]
fn a_packet_whose_enforced_program_is_not_reached_is_dropped() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::new("chain", over, &[WEB]);
        site.start();
        site.write("candidate.hujson", &policy(&[WEB, OTHER]));
        site.done(&["stage", &site.path("candidate.hujson")]);
        let [xdp, tc] = &chains(&site)[..] else { panic!("two tables") };
        let mut connection = site.connect("client", 8080);
        connection.goes_on();

        // On Ethernet XDP sees what comes in, and TC what goes out; on a tunnel TC sees both.
        let inward = if over == Over::Ethernet { xdp } else { tc };
        assert!(empty(inward) > 0);
        assert!(!connection.arrives()[0], "in");
        assert!(site.is_denied("client", 8080) && site.is_denied("client", 8081));
        assert!(site.is_denied("stranger", 8080));
        assert_eq!(empty(tc) == 0, over == Over::Tunnel);
        assert_eq!(connection.arrives(), [false, false], "in and out");

        // Whatever is dropped is counted.
        let before = drops(&site.status());
        assert!(site.is_denied("client", 8080));
        assert!(drops(&site.status()) > before, "a drop that nothing counts");

        // The next generation has tables of its own.
        site.done(&["apply"]);
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    }
}
