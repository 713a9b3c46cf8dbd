//! What the agent needs of its host: directories that nobody else may change, and descriptors in reserve for
//! when all are used up.

pub mod places;
pub mod spare;
