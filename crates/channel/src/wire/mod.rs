//! NATS's client protocol, with bounds on what a server can make this process hold.

mod frame;
mod greeting;
mod stream;

pub use frame::Message;
pub(crate) use frame::{Frame, Frames, LONGEST_MESSAGE};
pub(crate) use greeting::{Info, greet};
pub(crate) use stream::{Address, Stream};
