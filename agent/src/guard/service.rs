//! What the daemon asks of nftables: [`Nft`] asks the kernel's, tests have one in memory.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::digest::{self, Digest};
use super::install::Installed;
use super::spec::Guard;
use super::table;

/// Puts an instance's table in place and tells what became of it.
pub trait Fallback: Debug + Send + Sync {
    /// Whether there is a table.
    fn is_there(&self, instance: &str) -> bool;

    /// Puts it in place, or replaces the one that is, at once.
    ///
    /// # Errors
    /// If nftables refuses; then it is as it was.
    fn install(&self, guard: &Guard, instance: &str) -> anyhow::Result<Box<dyn InstalledFallback>>;

    /// Removes the table, if there is one.
    ///
    /// # Errors
    /// If nftables refuses.
    fn remove(&self, instance: &str) -> anyhow::Result<()>;

    /// Whether the table drops what a managed device, by index and group, carries.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn closes(&self, instance: &str, device: (u32, u32)) -> anyhow::Result<bool>;

    /// Why the kernel does not have the table of a digest; none if it has.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn difference(&self, digest: &Digest, instance: &str) -> anyhow::Result<Option<&'static str>>;

    /// Why the table drops nothing at all, whatever was put in place.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn is_absent(&self, instance: &str) -> anyhow::Result<Option<&'static str>>;
}

/// A table that this process has put in place.
pub trait InstalledFallback: Debug + Send {
    /// Why the kernel does not have it; none if it has, exactly.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn difference(&mut self) -> anyhow::Result<Option<&'static str>>;

    /// Lets only these managed devices' packets pass, at once for all of them.
    ///
    /// # Errors
    /// If nftables refuses; then nothing has changed.
    fn set_attached(&mut self, devices: &BTreeSet<(u32, u32)>) -> anyhow::Result<()>;

    /// What another process compares the kernel with.
    fn digest(&self) -> Digest;
}

/// nftables, in the calling thread's network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nft;

impl Fallback for Nft {
    fn is_there(&self, instance: &str) -> bool {
        table::is_there(instance)
    }
    fn install(&self, guard: &Guard, instance: &str) -> anyhow::Result<Box<dyn InstalledFallback>> {
        Ok(Box::new(guard.install(instance)?))
    }
    fn remove(&self, instance: &str) -> anyhow::Result<()> {
        table::remove(instance)
    }
    fn closes(&self, instance: &str, device: (u32, u32)) -> anyhow::Result<bool> {
        table::closes(instance, device)
    }
    fn difference(&self, digest: &Digest, instance: &str) -> anyhow::Result<Option<&'static str>> {
        digest.difference(instance)
    }
    fn is_absent(&self, instance: &str) -> anyhow::Result<Option<&'static str>> {
        digest::is_absent(instance)
    }
}

impl InstalledFallback for Installed {
    fn difference(&mut self) -> anyhow::Result<Option<&'static str>> {
        Self::difference(self)
    }
    fn set_attached(&mut self, devices: &BTreeSet<(u32, u32)>) -> anyhow::Result<()> {
        Self::set_attached(self, devices)
    }
    fn digest(&self) -> Digest {
        Self::digest(self)
    }
}
