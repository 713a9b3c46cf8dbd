//! Netlink's messages and attributes, for requests that no crate makes: numbers of linux/netlink.h.

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};

/// A request.
pub const NLM_F_REQUEST: u16 = 1;
/// The kernel is to confirm.
pub const NLM_F_ACK: u16 = 4;
/// What was listed changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// All of a kind.
pub const NLM_F_DUMP: u16 = 0x300;
/// A confirmation, or an error.
pub const NLMSG_ERROR: u16 = 2;
/// The end of a list.
pub const NLMSG_DONE: u16 = 3;

/// Bytes of `nlmsghdr`.
pub const HEADER: usize = 16;
/// Room for what one receive returns, bytes: the kernel fills up to 32 KiB.
pub const ROOM: usize = 64 << 10;

/// The messages of one receive: number, flags, sequence number, payload. What is cut short ends them.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).max(HEADER);
        let found = (message.message_type(), message.flags(), message.sequence_number(), message.payload());
        rest = rest.get(length..).unwrap_or(&[]);
        Some(found)
    })
}

/// Attributes: number without flags, and payload. What is cut short ends them.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute: NlaBuffer<&[u8]>| {
        let (kind, length) = (attribute.kind(), attribute.length() as usize);
        // The iterator's item lends its bytes for as long as the buffer lives.
        (kind, attribute.into_inner().get(4..length).unwrap_or(&[]))
    })
}

/// The first attribute of a number.
#[must_use]
pub fn attribute(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == number).map(|(_, payload)| payload)
}

/// Adds attributes: number and payload.
pub fn put(bytes: &mut Vec<u8>, attributes: &[(u16, &[u8])]) {
    for (number, payload) in attributes {
        bytes.extend_from_slice(&(payload.len() as u16 + 4).to_ne_bytes());
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

/// A name for a request: it ends with a NUL.
#[must_use]
pub fn named(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::{attribute, attributes, messages, put};

    #[test]
    fn what_is_put_is_found() {
        let mut bytes = Vec::new();
        put(&mut bytes, &[(1, b"abc\0"), (2, b"x")]);
        assert_eq!(bytes.len(), 8 + 8);
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(1, &b"abc\0"[..]), (2, b"x")]);
        assert_eq!((attribute(&bytes, 2), attribute(&bytes, 3)), (Some(&b"x"[..]), None));
    }

    #[test]
    fn what_is_cut_short_ends_what_is_read() {
        assert_eq!(messages(&[9; 15]).count(), 0);
        // A message that says it is longer than what came.
        assert_eq!(messages(&[64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attribute(&[9, 0, 1, 0, 1], 1), None);
    }
}
