//! Policies and inventories of many hosts: two TUF repositories in one tree of files, which whoever carries them can
//! delay, and can neither forge, mix nor roll back.

mod origin;

pub use origin::{Directory, Https, Origin, OriginError};
