//! Disk → hooks → disk, with the agent killed or refused at every step.

mod answered;
mod crash;
mod damaged;
mod fallback;
mod grants;
mod readdressed;
mod refusal;
mod returned;
mod trusted;
mod unconfirmed;
mod world;
