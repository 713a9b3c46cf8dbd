//! What the agent needs of its host: directories that nobody else may change, groups that may more than others,
//! descriptors in reserve for when all are used up, and the state of its clock.

pub mod clock;
pub mod groups;
pub mod places;
pub mod spare;
