//! The keys of a wg-quick style file, by what they are called. Messages name a key in this spelling alone.

/// Keys of `[Interface]`.
pub const INTERFACE: [&str; 6] = ["PrivateKey", "Address", "ListenPort", "MTU", "Table", "FwMark"];

/// Keys of `[Interface]` that wg-quick acts on and we do not.
pub const NOT_ACTED_ON: [&str; 6] = ["DNS", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"];

/// Keys of `[Peer]`.
pub const PEER: [&str; 5] = ["PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"];

/// The key that a text is, in any case.
pub fn named(text: &str) -> Option<&'static str> {
    let mut all = INTERFACE.into_iter().chain(NOT_ACTED_ON).chain(PEER);
    all.find(|key| key.eq_ignore_ascii_case(text))
}

/// Whether a key may stand more than once in its section.
pub fn repeats(key: &str) -> bool {
    matches!(key, "Address" | "AllowedIPs") || NOT_ACTED_ON.contains(&key)
}

/// Keys as a sentence has them.
pub fn listed(keys: &[&str]) -> String {
    match keys {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => keys.concat(),
    }
}
