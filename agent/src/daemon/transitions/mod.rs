//! Disk → hooks → disk, with the agent killed or refused at every step.

mod answered;
mod crash;
mod fallback;
mod refusal;
mod world;
