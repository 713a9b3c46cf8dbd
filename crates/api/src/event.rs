//! Events: what the agent tells of.
