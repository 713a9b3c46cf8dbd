//! What others have named, in files that people read.

/// A text that was not written here, in a comment: one line, of what can be seen.
pub fn shown(text: &str) -> String {
    let seen = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(64).map(seen).collect()
}

/// A name that needs no quotes on a command line: small letters, digits, `-`, `_` and `.`.
pub fn name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text.chars().map(|c| if fits(c) { c.to_ascii_lowercase() } else { '-' }).collect();
    name.trim_matches(['-', '.']).chars().take(63).collect()
}

/// A text in quotes, for JSON and TOML alike.
pub fn quoted(text: &str) -> String {
    // Both have the escapes that JSON's writer uses.
    serde_json::Value::from(text).to_string()
}

/// A list of such texts.
pub fn list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}
