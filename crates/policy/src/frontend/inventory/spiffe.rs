//! SPIFFE IDs, as names of workloads (the SPIFFE ID specification, section 2).

use std::fmt;

/// What every SPIFFE ID begins with.
pub const SCHEME: &str = "spiffe://";

/// The longest trust domain, and the longest ID, bytes.
const DOMAIN_LIMIT: usize = 255;
const LIMIT: usize = 2048;

/// The SPIFFE ID of a workload: `spiffe://TRUST_DOMAIN/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

/// One SPIFFE ID or all below one, as a policy names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffePattern {
    /// What the IDs begin with, without a slash at its end.
    start: String,
    /// Whether everything below is meant, and not the one ID.
    is_below: bool,
}

impl SpiffeId {
    /// Reads an ID.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let path = check(text)?;
        if path.is_empty() {
            return Err("it names a trust domain and no workload: a path is missing");
        }
        Ok(Self(text.to_owned()))
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffePattern {
    /// Reads `spiffe://TRUST_DOMAIN/PATH` or `spiffe://TRUST_DOMAIN/PATH/*`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (start, is_below) = text.strip_suffix("/*").map_or((text, false), |start| (start, true));
        let path = check(start)?;
        if path.is_empty() && !is_below {
            return Err("it names a trust domain and no workload: add a path, or /* for all of it");
        }
        Ok(Self { start: start.to_owned(), is_below })
    }

    /// Whether an ID is meant.
    #[must_use]
    pub fn holds(&self, id: &SpiffeId) -> bool {
        match id.0.strip_prefix(&self.start) {
            Some(rest) if self.is_below => rest.starts_with('/'),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }

    /// An ID that it holds.
    #[must_use]
    pub fn example(&self) -> SpiffeId {
        SpiffeId(if self.is_below { format!("{}/placeholder", self.start) } else { self.start.clone() })
    }
}

/// The path of an ID, with its first slash; none of a trust domain's own ID.
fn check(text: &str) -> Result<&str, &'static str> {
    let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with spiffe://")?;
    let (domain, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if text.len() > LIMIT || domain.len() > DOMAIN_LIMIT {
        return Err("it is too long");
    }
    let is_of_domain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    if domain.is_empty() || !domain.bytes().all(is_of_domain) {
        return Err("a trust domain is small letters, digits, dots, dashes and underscores");
    }
    for segment in path.split('/').skip(1) {
        let is_of_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if segment.is_empty() || matches!(segment, "." | "..") || !segment.bytes().all(is_of_path) {
            return Err(
                "each part of its path is letters, digits, dots, dashes and underscores, and neither empty nor . nor ..",
            );
        }
    }
    Ok(path)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.start, if self.is_below { "/*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::{SpiffeId, SpiffePattern};

    #[test]
    fn ids_are_as_the_specification_has_them() {
        for good in ["spiffe://a/b", "spiffe://a.b-c_1/B/c.d/e-f_9", "spiffe://a/..."] {
            assert_eq!(SpiffeId::parse(good).unwrap().to_string(), good);
        }
        let long = format!("spiffe://a/{}", "b".repeat(2048));
        for bad in [
            "spiffe://a",
            "spiffe:///b",
            "spiffe://A/b",
            "spiffe://a:80/b",
            "spiffe://u@a/b",
            "spiffe://a/",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/..",
            "spiffe://a/b c",
            "spiffe://a/b%20",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/*",
            "SPIFFE://a/b",
            "a/b",
            &long,
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_below_an_id_is_not_what_begins_alike() {
        let holds = |pattern: &str, id: &str| {
            SpiffePattern::parse(pattern).unwrap().holds(&SpiffeId::parse(id).unwrap())
        };
        assert!(holds("spiffe://a/b", "spiffe://a/b") && holds("spiffe://a/b/*", "spiffe://a/b/c/d"));
        assert!(holds("spiffe://a/*", "spiffe://a/b"));
        for (pattern, id) in [
            ("spiffe://a/b", "spiffe://a/b/c"),
            ("spiffe://a/b", "spiffe://a/bc"),
            ("spiffe://a/b/*", "spiffe://a/b"),
            ("spiffe://a/b/*", "spiffe://a/bc/d"),
            ("spiffe://a/*", "spiffe://ab/c"),
        ] {
            assert!(!holds(pattern, id), "{pattern} {id}");
        }
        for bad in
            ["spiffe://a", "spiffe://a/", "spiffe://a/b*", "spiffe://a/*/b", "spiffe://*", "spiffe://*/a"]
        {
            assert!(SpiffePattern::parse(bad).is_err(), "{bad}");
        }
        let pattern = SpiffePattern::parse("spiffe://a/b/*").unwrap();
        assert!(pattern.holds(&pattern.example()));
    }
}
