//! What goes wrong and does not stop the agent.

/// At the start a disk that refuses must not keep the host unprotected: it is said.
pub fn log_unsaved(written: anyhow::Result<()>) {
    if let Err(error) = written {
        tracing::error!("{error:#}; a restart will not know of this");
    }
}

/// Says what failed, and goes on without.
pub fn log_and_default<T: Default>(error: impl Into<anyhow::Error>) -> T {
    tracing::error!("{:#}", error.into());
    T::default()
}
