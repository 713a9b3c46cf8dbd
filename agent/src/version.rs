//! What this binary is.

/// The version, as packages have it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-dirty` if files differed from it; `unknown` outside a checkout.
pub const COMMIT: &str = env!("BULKHEAD_COMMIT");

/// Both, for `--version`.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BULKHEAD_COMMIT"), ")");

#[cfg(test)]
mod tests {
    use super::{COMMIT, LONG, VERSION};

    #[test]
    fn the_commit_is_one() {
        let digits = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        let is_commit = digits.len() >= 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        assert!(is_commit || COMMIT == "unknown", "{COMMIT}");
        assert_eq!(LONG, format!("{VERSION} ({COMMIT})"));
    }
}
