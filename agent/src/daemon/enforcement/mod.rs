//! Changes of what is enforced: each a function over the [`Enforcer`](super::state::Enforcer).

pub mod apply;
pub mod attach;
pub mod change;
pub mod detach;
pub mod kept;
mod left_open;
pub mod origin;
pub mod rebuild;
pub mod rollback;
mod session;
pub mod stage;
pub mod start;
pub mod takeover;
pub mod timers;
mod withdraw;

pub use apply::{apply, confirm};
pub use attach::attach;
pub use detach::detach;
pub use rollback::rollback;
pub use stage::{promote, stage, unstage};
