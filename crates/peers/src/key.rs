//! A public key.

use std::fmt;

/// A WireGuard public key: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Of 64 hexadecimal digits, as UAPI and Tailscale write it.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let text: &[u8; 64] = text.try_into().ok()?;
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(key))
    }
}

/// In hexadecimal digits.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_is_64_digits_and_nothing_else() {
        let key = Key(std::array::from_fn(|index| index as u8 * 7));
        let text = format!("{key:?}");
        assert_eq!(Key::from_hex(text.as_bytes()), Some(key));
        assert_eq!(Key::from_hex(text.to_uppercase().as_bytes()), Some(key));
        assert_eq!(Key::from_hex(&text.as_bytes()[1..]), None);
        assert_eq!(Key::from_hex(format!("{}g", &text[1..]).as_bytes()), None);
    }
}
