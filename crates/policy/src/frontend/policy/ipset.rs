//! IP sets: ordered lists of what to add and what to remove.

use std::fmt;
use std::net::IpAddr;

use super::selector::{self, Malformed};
use crate::address::prefix_range;

/// One step of an IP set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the target goes out; in otherwise.
    pub remove: bool,
    /// What.
    pub target: Target,
}

/// What an IP set is made of. Tags, users and groups cannot be in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A closed range of addresses of one family.
    Range(IpAddr, IpAddr),
    /// `host:NAME`; the name in `hosts`.
    Host(String),
    /// `ipset:NAME`, with its prefix.
    Set(String),
    /// `autogroup:internet`.
    Internet,
}

impl Step {
    /// Reads `TARGET`, `add TARGET` or `remove TARGET`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let trimmed = text.trim();
        let (verb, rest) = trimmed.split_once(char::is_whitespace).unwrap_or(("add", trimmed));
        let remove = match verb {
            "add" => false,
            "remove" => true,
            _ => {
                return Err(Malformed::new(format!("\"{text}\" is no step of an IP set"))
                    .help("write TARGET, add TARGET or remove TARGET"));
            }
        };
        Ok(Self { remove, target: Target::parse(rest.trim())? })
    }
}

impl Target {
    fn parse(word: &str) -> Result<Self, Malformed> {
        if word == "autogroup:internet" {
            return Ok(Self::Internet);
        }
        if let Some(name) = word.strip_prefix("host:").filter(|name| !name.is_empty()) {
            return Ok(Self::Host(name.into()));
        }
        if word.strip_prefix("ipset:").is_some_and(|name| !name.is_empty()) {
            return Ok(Self::Set(word.into()));
        }
        if let Some((first, last)) = word.split_once('-')
            && let (Some(first), Some(last)) = (selector::prefix(first)?, selector::prefix(last)?)
        {
            let (first, last) = (prefix_range(&first), prefix_range(&last));
            let single = first.0 == first.1 && last.0 == last.1;
            if !single || first.0.is_ipv4() != last.0.is_ipv4() || first.0 > last.0 {
                return Err(Malformed::new(format!("\"{word}\" is no range of addresses"))
                    .help("write LOWEST-HIGHEST, both of one family"));
            }
            return Ok(Self::Range(first.0, last.0));
        }
        match selector::prefix(word)? {
            Some(net) => {
                let (first, last) = prefix_range(&net);
                Ok(Self::Range(first, last))
            }
            None => Err(Malformed::new(format!("\"{word}\" cannot be in an IP set")).help(
                "an IP set holds addresses, prefixes, ranges, host:NAME, ipset:NAME and autogroup:internet",
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(first, last) if first == last => write!(f, "{first}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Host(name) => write!(f, "host:{name}"),
            Self::Set(name) => f.write_str(name),
            Self::Internet => f.write_str("autogroup:internet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_and_remove() {
        let step = |text| Step::parse(text).map(|step| (step.remove, step.target.to_string()));
        assert_eq!(step("10.0.0.1").unwrap(), (false, "10.0.0.1".into()));
        assert_eq!(step("add 10.0.0.0/24").unwrap(), (false, "10.0.0.0-10.0.0.255".into()));
        assert_eq!(step("remove  10.0.0.5-10.0.0.9").unwrap(), (true, "10.0.0.5-10.0.0.9".into()));
        assert_eq!(step("remove ipset:a").unwrap(), (true, "ipset:a".into()));
        assert_eq!(step("add host:a-b").unwrap(), (false, "host:a-b".into()));
        assert_eq!(step("add autogroup:internet").unwrap(), (false, "autogroup:internet".into()));
        for bad in [
            "",
            "add",
            "drop 10.0.0.1",
            "10.0.0.9-10.0.0.5",
            "10.0.0.0/24-10.0.1.0/24",
            "10.0.0.1-fd7a::1",
            "tag:a",
            "group:a",
            "a@b.c",
            "autogroup:member",
            "web",
            "host:",
            "ipset:",
            "10.0.0.1/8",
            "::ffff:10.0.0.1",
        ] {
            assert!(Step::parse(bad).is_err(), "{bad}");
        }
    }
}
