//! What the agent needs of its host: directories that nobody else may change, groups that may more than others,
//! descriptors in reserve for when all are used up, the state of its clock, netlink's messages, and programs that are run.

pub mod clock;
pub mod groups;
pub mod netlink;
pub mod places;
pub mod program;
pub mod spare;

/// The host's name (`uname -n`); of one that is no UTF-8, as much as is.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
