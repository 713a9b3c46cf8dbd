//! The guard's table, whoever has put it there.

use anyhow::Context as _;

use super::nft::nft;
use super::rules::{self, Way};
use super::spec::table_name;
use super::state::{self, read};

/// Whether nftables can be had here at all.
///
/// # Errors
/// If not; what to do about it.
pub fn check() -> anyhow::Result<()> {
    let tables = nft("list tables\n").context(
        "the nftables guard is not possible here; install the nftables package, or run without it by --guard off",
    );
    tables.map(drop)
}

/// Whether an instance has a guard.
#[must_use]
pub fn is_there(instance: &str) -> bool {
    // Names alone: listing the table itself would list every address.
    let line = format!("table inet {}", table_name(instance));
    nft("list tables inet\n").is_ok_and(|tables| tables.lines().any(|table| table == line))
}

/// Whether an instance's guard drops what a managed device, by index and group, carries.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn closes(instance: &str, device: (u32, u32)) -> anyhow::Result<bool> {
    let key = state::attached_contents(&[device].into());
    Ok(read(instance)?.is_some_and(|state| {
        !state.outline.is_dormant
            && state.contents.get("attached").is_some_and(|open| key.iter().all(|key| !open.contains(key)))
    }))
}

/// Removes an instance's guard, if there is one.
///
/// # Errors
/// If nftables refuses.
pub fn remove(instance: &str) -> anyhow::Result<()> {
    nft(&rules::clear(instance, &Way::Anew)).context("removing the nftables guard").map(drop)
}
