//! Two clients that never pause for long: one whose every request must be answered, one who must not
//! be heard.

use std::net::SocketAddr;
use std::time::Duration;

use bulkhead_testkit::lab::{Counts, Load, Stream, Talk};

use super::Site;

/// Between two requests: 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// UDP from `client` to two ports of the server.
pub fn start(site: &Site, allowed: u16, denied: u16) -> Load {
    let streams = [(allowed, true), (denied, false)].map(|(port, admitted)| Stream {
        from: "client".to_owned(),
        source: site.address("client"),
        to: "server".to_owned(),
        at: SocketAddr::new(site.address("server"), port),
        talk: Talk::Datagrams,
        admitted,
    });
    Load::start(&site.lab, &streams, PAUSE).unwrap()
}

/// Nothing that is admitted was lost, nothing that is denied came through.
#[track_caller]
pub fn check(load: Load) -> Counts {
    let counts = load.stop().unwrap();
    let wrong = (counts.unanswered, counts.denied_answered, counts.denied_through);
    assert_eq!(wrong, (0, 0, 0), "{counts:#?}");
    counts
}
