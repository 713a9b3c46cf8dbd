//! 'Did you mean …?'

/// The known name closest to a misspelt one, if any is close.
pub fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// The suggestion as a sentence, with quotes as in the file.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(wrong, known).map(|name| format!("did you mean \"{name}\"?"))
}

/// The known login that a misspelt one may mean: its name or its domain is close, and the other the same.
pub fn login<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (name, domain) = wrong.rsplit_once('@')?;
    known.into_iter().find(|login| {
        login.rsplit_once('@').is_some_and(|(other, end)| match (other == name, end == domain) {
            (false, true) => closest(name, [other]).is_some(),
            // headscale's users without an address end with the @.
            (true, false) => domain.is_empty() || end.is_empty() || closest(domain, [end]).is_some(),
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        let known = ["tag:production", "tag:monitoring"];
        assert_eq!(closest("tag:prodution", known), Some("tag:production"));
        assert_eq!(closest("tag:dev", known), None);
        let logins = ["alice@example.com", "bob@example.com"];
        assert_eq!(login("alicee@example.com", logins), Some("alice@example.com"));
        assert_eq!(login("bob@exmaple.com", logins), Some("bob@example.com"));
        assert_eq!(login("dave@example.com", logins), None);
        assert_eq!(login("bob@other.org", logins), None);
        assert_eq!(login("bob@", logins), Some("bob@example.com"));
        assert_eq!(login("carol@example.com", ["carol@"]), Some("carol@"));
        assert_eq!(closest("ACLS", ["acls", "groups"]), Some("acls"));
    }
}
