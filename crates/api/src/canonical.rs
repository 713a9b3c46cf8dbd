//! Canonical JSON (RFC 8785) of what `serde_json` writes.

use std::cmp::Ordering;
use std::ops::Range;

/// Sorts the members of every object in a text of `serde_json`, into `sorted`. Nothing else of such a text differs: it
/// has no white space, and strings escape only what they must.
///
/// In place of a tree of values, which costs several times as much: a flood of drops is some thousand records a second.
/// For that, too, `room` is kept from one text to the next.
pub(crate) fn sort(text: &[u8], sorted: &mut Vec<u8>, room: &mut Vec<u8>) {
    sorted.clear();
    Sorter { text, at: 0, members: Vec::with_capacity(32), unsorted: room }.value(sorted);
}

struct Sorter<'t, 'r> {
    text: &'t [u8],
    at: usize,
    /// Of the objects that are being read, the outermost first, with their places in what is written.
    members: Vec<(Name<'t>, Range<usize>)>,
    /// An object's members as they were read.
    unsorted: &'r mut Vec<u8>,
}

impl<'t> Sorter<'t, '_> {
    fn next(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
    }

    fn value(&mut self, out: &mut Vec<u8>) {
        match self.next() {
            b'{' => self.object(out),
            b'[' => self.array(out),
            b'"' => out.extend_from_slice(self.string()),
            _ => {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|byte| b",]}".contains(byte)).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..length]);
                self.at += length;
            }
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> &'t [u8] {
        let (begin, mut is_escaped) = (self.at, false);
        let is_end = |byte: &u8| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        };
        let behind = &self.text[self.text.len().min(begin + 1)..];
        let length = behind.iter().position(is_end).map_or(behind.len(), |end| end + 1);
        self.at = begin + 1 + length;
        &self.text[begin..self.at.min(self.text.len())]
    }

    fn array(&mut self, out: &mut Vec<u8>) {
        self.at += 1;
        out.push(b'[');
        while !matches!(self.next(), b']' | 0) {
            self.value(out);
            if self.next() == b',' {
                self.at += 1;
                out.push(b',');
            }
        }
        self.at += 1;
        out.push(b']');
    }

    fn object(&mut self, out: &mut Vec<u8>) {
        self.at += 1;
        out.push(b'{');
        let (begin, first) = (out.len(), self.members.len());
        while !matches!(self.next(), b'}' | 0) {
            if self.members.len() != first {
                out.push(b',');
            }
            let (name, from) = (self.string(), out.len());
            out.extend_from_slice(name);
            out.push(b':');
            self.at += 1;
            self.value(out);
            self.members.push((Name::of(name), from..out.len()));
            if self.next() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        let members = &mut self.members[first..];
        if !members.is_sorted_by(|(one, _), (other, _)| one.cmp(other).is_le()) {
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            self.unsorted.clear();
            self.unsorted.extend_from_slice(&out[begin..]);
            out.truncate(begin);
            for (place, (_, member)) in members.iter().enumerate() {
                if place != 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&self.unsorted[member.start - begin..member.end - begin]);
            }
        }
        self.members.truncate(first);
        out.push(b'}');
    }
}

/// A member's name. Names have the order of their UTF-16 code units (RFC 8785, 3.2.3).
enum Name<'t> {
    /// Of ASCII, and without escapes: its bytes have the same order.
    Plain(&'t [u8]),
    /// Any other.
    Units(Vec<u16>),
}

impl<'t> Name<'t> {
    /// Of a name with its quotes.
    fn of(name: &'t [u8]) -> Self {
        if name.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
            return Self::Plain(&name[1..name.len() - 1]);
        }
        let text: String = serde_json::from_slice(name).unwrap_or_default();
        Self::Units(text.encode_utf16().collect())
    }

    fn units(&self) -> impl Iterator<Item = u16> {
        let (plain, units) = match self {
            Self::Plain(bytes) => (*bytes, &[][..]),
            Self::Units(units) => (&[][..], &**units),
        };
        plain.iter().map(|byte| u16::from(*byte)).chain(units.iter().copied())
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => one.cmp(other),
            _ => self.units().cmp(other.units()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn sort(text: &[u8]) -> Vec<u8> {
        // What was there before is of no matter.
        let (mut sorted, mut room) = (b"{}".to_vec(), b"[]".to_vec());
        super::sort(text, &mut sorted, &mut room);
        sorted
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\\\\"{}\\[\\],:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let members = prop::collection::btree_map("[ -~\u{1}é\u{2028}]{0,8}", inner.clone(), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// A text of the value whose objects have their members from the last to the first.
    fn reversed(value: &Value) -> String {
        match value {
            Value::Array(items) => {
                format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(","))
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    format!("{}:{}", Value::from(name.as_str()), reversed(value))
                };
                format!("{{{}}}", members.iter().rev().map(member).collect::<Vec<_>>().join(","))
            }
            leaf => leaf.to_string(),
        }
    }

    proptest! {
        #[test]
        fn any_order_of_members_has_the_same_text(value in value()) {
            // The map of `serde_json` is sorted.
            prop_assert_eq!(String::from_utf8(sort(reversed(&value).as_bytes())).unwrap(), value.to_string());
            prop_assert_eq!(String::from_utf8(sort(value.to_string().as_bytes())).unwrap(), value.to_string());
        }
    }

    #[test]
    fn names_are_in_the_order_of_their_code_units() {
        // One beyond the first plane begins with a surrogate, U+D83D.
        let text = sort("{\"\u{e000}\":1,\"\u{1f600}\":2,\"\\\"\":3,\"!\":4}".as_bytes());
        assert_eq!(String::from_utf8(text).unwrap(), "{\"!\":4,\"\\\"\":3,\"\u{1f600}\":2,\"\u{e000}\":1}");
    }

    #[test]
    fn one_name_may_begin_another() {
        let text = sort(br#"{"a b":1,"a!":2,"ab":3,"a":{"z":[],"y":{}}}"#);
        assert_eq!(
            text,
            json!({"a": {"y": {}, "z": []}, "a b": 1, "a!": 2, "ab": 3}).to_string().into_bytes()
        );
    }
}
