//! A file's bytes as text: UTF-8, or what editors on Windows write.

/// UTF-8, with or without a byte order mark, which is dropped; or UTF-16 with one, in either byte order.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let read = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => {
            let text = String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 text: {error}"))?;
            return Ok(match text.strip_prefix('\u{feff}') {
                Some(rest) => rest.to_owned(),
                None => text,
            });
        }
    };
    let pairs = bytes[2..].chunks(2);
    let units = pairs.map(|pair| <[u8; 2]>::try_from(pair).map(read).unwrap_or(0xd800));
    char::decode_utf16(units)
        .collect::<Result<String, _>>()
        .map_err(|_| "it is not UTF-16 text, as its byte order mark says; save it as UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_dropped_and_utf_16_is_read() {
        assert_eq!(decode(b"\xef\xbb\xbf{\"\xc3\xa9\"}".to_vec()).unwrap(), "{\"\u{e9}\"}");
        assert_eq!(decode(b"{}".to_vec()).unwrap(), "{}");
        let text = "[Interface]\r\n# \u{1f600}";
        let little: Vec<u8> =
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> =
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
        assert_eq!(
            (decode(little.clone()).unwrap(), decode(big).unwrap()),
            (text.to_owned(), text.to_owned())
        );
        let cut = little[..little.len() - 1].to_vec();
        for wrong in [cut, vec![0xff, 0xfe, 0x00, 0xd8], vec![0x7b, 0xff]] {
            assert!(decode(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
