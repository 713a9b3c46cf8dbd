//! What the agent needs of its host: directories that nobody else may change, groups that may more than others, and
//! descriptors in reserve for when all are used up.

pub mod groups;
pub mod places;
pub mod spare;
