//! Parts of a decision that a program may keep out of the verifier's way: as global functions they are looked
//! at once, by themselves, and not again at every call.

use bulkhead_abi::{Address, Direction, Leaf};

use crate::parse::Headers;
use crate::{Environment, Judgement, Metadata, Packet, Reason};

/// The engine's own functions, as its environment calls them. Each implementation is the function of that name
/// in this crate, in line or not: there is one answer to what they do.
pub trait Calls: Environment {
    /// [`crate::leaf_of`].
    ///
    /// # Errors
    /// The same.
    fn leaf(&self, version: u8, address: &Address) -> Result<Leaf, Reason>;
    /// [`crate::judge`].
    fn judge(&self, direction: Direction, classes: [u32; 2], protocol: u8, port: u16) -> Judgement;
    /// [`crate::admit`].
    fn admit(&self, meta: &mut Metadata, direction: Direction, rule: u32, limit: u16);
    /// [`crate::reply`].
    fn reply(&self, meta: &mut Metadata, direction: Direction);
    /// [`crate::untracked`].
    fn untracked(&self, meta: &mut Metadata, direction: Direction);
    /// [`crate::look_up_either`].
    fn look_up_either(&self, meta: &mut Metadata, direction: Direction);
    /// [`crate::begins`].
    fn begins(&self, packet: &Packet, meta: &mut Metadata, direction: Direction, flags: u8);
    /// [`crate::compare`].
    fn compare(&self, packet: &Packet, meta: &mut Metadata);
    /// [`crate::forgotten`].
    fn forgotten(&self, headers: &Headers);
    /// [`crate::rejected`].
    fn rejected(&self, headers: &Headers, direction: Direction);
}
