//! How much a test does: little by default, more by the environment.

/// The number that an environment variable holds, or the default.
///
/// # Panics
/// If it holds something else.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")),
        Err(_) => default,
    }
}
