//! Requests: what the agent is asked to do, and its answers.
