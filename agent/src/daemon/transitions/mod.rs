//! Disk → hooks → disk, with the agent killed or refused at every step.

mod crash;
mod fallback;
mod refusal;
mod world;
