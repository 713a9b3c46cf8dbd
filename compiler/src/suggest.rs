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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        let known = ["tag:production", "tag:monitoring"];
        assert_eq!(closest("tag:prodution", known), Some("tag:production"));
        assert_eq!(closest("tag:dev", known), None);
        assert_eq!(closest("ACLS", ["acls", "groups"]), Some("acls"));
    }
}
