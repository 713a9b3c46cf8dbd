//! Packets for the tests of the data path: built piece by piece, or made at random over a
//! random policy so that most belong to conversations.

pub mod build;
mod conversation;
mod damage;
mod generate;
mod world;

pub use conversation::Conversation;
pub use generate::{Frame, Generator};
pub use world::World;
