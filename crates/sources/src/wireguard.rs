//! The peers of a WireGuard interface of this host, named by a file.

use std::path::Path;

use bulkhead_peers::{Found, Source, find};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::import::{self, Import};
use bulkhead_policy::source::Source as Text;

use crate::{LONGEST, SourceError, down, file, wrong};

/// The peers that have a name. One that has none is nobody, as to the policy.
pub(crate) fn nodes(interface: &str, names: &Path) -> Result<Import, SourceError> {
    let source = match find(interface).map_err(|error| down(&error))? {
        // Tailscale's own are asked by its LocalAPI, which knows more.
        Found::Source(source @ (Source::Kernel | Source::Uapi(_))) => source,
        Found::Absent => return Err(down(&format!("{interface}: there is no such interface"))),
        Found::Source(Source::Tailscale) | Found::Nobody => {
            return Err(down(&format!("{interface}: nobody tells its peers; is it WireGuard's?")));
        }
    };
    let peers = source.peers(interface).map_err(|error| down(&error))?;
    let peers = peers.into_iter().map(|peer| (peer.key.0, peer.allowed));
    let path = names.display().to_string();
    let names = file::read(names, LONGEST)?;
    let mut findings = Findings::default();
    let list = import::peers(peers, &Text::new(&path, &names), &mut findings);
    list.filter(|_| !findings.has_errors()).ok_or_else(|| wrong(&findings))
}
