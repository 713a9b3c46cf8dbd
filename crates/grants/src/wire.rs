//! SSH's wire format (RFC 4251, section 5): numbers are big-endian, a string has its length before it.

use crate::error::{Error, Result};

/// Reads from the front of bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Of bytes that messages call `what`.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    fn short(&self) -> Error {
        Error::Key(format!("{} ends too early", self.what))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| self.short())
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let what = self.what;
        std::str::from_utf8(self.string()?)
            .map_err(|_| Error::Key(format!("{what} has a name that is no text")))
    }

    /// A string of exactly `N` bytes.
    pub(crate) fn string_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        let what = self.what;
        self.string()?.try_into().map_err(|_| Error::Key(format!("{what} has a part of another length")))
    }

    /// That nothing follows.
    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Key(format!("{} goes on too long", self.what))) }
    }
}

/// Appends a string.
pub(crate) fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}
