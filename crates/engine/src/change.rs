//! Changes the leaf of one address in tables, which programs may be reading.

use std::net::{IpAddr, Ipv4Addr};

use bulkhead_abi::{Address, Leaf, from_ip};

use crate::host_table::Full;

/// Why a leaf cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// The host table has no place for the address.
    Full,
    /// The trie names a block that it does not have, or has an entry where none of its kind can be.
    Broken,
}

impl From<Full> for Unchanged {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// The address tables of one generation. There is one writer.
pub trait Addresses {
    /// Why something could not be read or written.
    type Error: From<Unchanged>;

    /// An entry of the IPv4 trie.
    fn entry(&self, block: u32, slot: u8) -> Option<Leaf>;
    /// Writes one, so that whoever reads it sees everything written before.
    fn publish(&mut self, block: u32, slot: u8, entry: Leaf);
    /// The leaf that the host table has for an address.
    ///
    /// # Errors
    /// If the table is broken.
    fn host_table(&self, address: &Address) -> Result<Option<Leaf>, Self::Error>;
    /// Writes it there, see [`crate::host_table::set`].
    ///
    /// # Errors
    /// [`Unchanged::Full`] if it has no place for it.
    fn set_exact(&mut self, address: &Address, leaf: Leaf) -> Result<(), Self::Error>;
    /// The leaf of the longest IPv6 prefix around an address.
    ///
    /// # Errors
    /// If it cannot be read.
    fn prefix6(&self, address: &Address) -> Result<Leaf, Self::Error>;
}

/// The leaf of an address.
///
/// # Errors
/// [`Unchanged::Broken`], or what reading the tables says.
pub fn leaf<T: Addresses>(tables: &T, address: IpAddr) -> Result<Leaf, T::Error> {
    let words = from_ip(address);
    let IpAddr::V4(v4) = address else {
        return tables.host_table(&words)?.map_or_else(|| tables.prefix6(&words), Ok);
    };
    let Place { entry, .. } = place(tables, v4)?;
    entry.as_host_table().map_or(Ok(entry), |other| Ok(tables.host_table(&words)?.unwrap_or(other)))
}

/// Gives an address another leaf. No other address changes at any moment, and this one by the last
/// store: what stands for more than the address stays the leaf of the others, and the address gets
/// a place of its own in the host table before the trie sends anybody there.
///
/// # Errors
/// [`Unchanged`]; then no look-up has changed.
pub fn change<T: Addresses>(
    tables: &mut T,
    address: IpAddr,
    change: impl FnOnce(Leaf) -> Leaf,
) -> Result<(), T::Error> {
    let words = from_ip(address);
    let IpAddr::V4(v4) = address else {
        let leaf = match tables.host_table(&words)? {
            Some(leaf) => leaf,
            None => tables.prefix6(&words)?,
        };
        let wanted = change(leaf);
        return if wanted == leaf { Ok(()) } else { tables.set_exact(&words, wanted) };
    };
    let Place { block, slot, entry, is_single } = place(tables, v4)?;
    if is_single {
        let wanted = change(entry);
        if wanted != entry {
            tables.publish(block, slot, wanted);
        }
        return Ok(());
    }
    let around = entry.as_host_table().unwrap_or(entry);
    // An entry that sends to the host table cannot say so of the others.
    if around.quarantined() {
        return Err(Unchanged::Broken.into());
    }
    // Of a plain entry it is what a writer left that did not come to the end.
    let held = tables.host_table(&words)?;
    let leaf = if entry.is_leaf() { around } else { held.unwrap_or(around) };
    let wanted = change(leaf);
    if wanted != held.unwrap_or(around) {
        tables.set_exact(&words, wanted)?;
    }
    if entry.is_leaf() && wanted != around {
        tables.publish(block, slot, Leaf::host_table(around));
    }
    Ok(())
}

/// An entry of the trie, and whether it is of one address only.
struct Place {
    block: u32,
    slot: u8,
    entry: Leaf,
    is_single: bool,
}

/// The entry that an address leads to.
fn place<T: Addresses>(tables: &T, address: Ipv4Addr) -> Result<Place, Unchanged> {
    let [first, second, third, fourth] = address.octets();
    let (mut block, mut slot) = (u32::from(first), second);
    for byte in [third, fourth] {
        let entry = tables.entry(block, slot).ok_or(Unchanged::Broken)?;
        let Some(next) = entry.as_block() else {
            return Ok(Place { block, slot, entry, is_single: false });
        };
        (block, slot) = (next, byte);
    }
    let entry = tables.entry(block, slot).filter(|entry| entry.is_leaf()).ok_or(Unchanged::Broken)?;
    Ok(Place { block, slot, entry, is_single: true })
}
