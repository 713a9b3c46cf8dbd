//! Who has touched a table, as the kernel tells of every transaction.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{NFTABLES, Netfilter, attribute, name, number};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// `NFT_MSG_NEWGEN`, the last message of a transaction.
const NEW_GENERATION: u16 = (NFTABLES as u16) << 8 | 15;

/// Room for news that nobody has read yet, bytes: a table with 100,000 addresses. It takes memory only as it
/// is needed.
const ROOM: i32 = 16 << 20;

/// What the news of one table say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Touches {
    /// The last generation whose news have been read, if there were any.
    generation: Option<u32>,
    /// How many transactions have touched the table, as far as their news are complete.
    whole: u32,
    /// One that is not complete has touched it.
    is_pending: bool,
    /// News were lost: nobody knows who has touched it.
    is_lost: bool,
}

/// News of one table since it was opened.
#[derive(Debug)]
pub struct News {
    netfilter: Netfilter,
    table: String,
    touches: Touches,
}

impl Touches {
    /// Takes in one message: its number and its attributes.
    fn see(&mut self, table: &str, message: u16, attributes: &[u8]) {
        if message == NEW_GENERATION {
            // NFTA_GEN_ID
            self.generation = attribute(attributes, 1).and_then(number).or(self.generation);
            self.whole = self.whole.saturating_add(self.is_pending.into());
            self.is_pending = false;
        } else {
            // The table's name has number 1 in all other messages.
            self.is_pending |= attribute(attributes, 1).is_none_or(|found| name(found) == table);
        }
    }
}

impl News {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(table: &str) -> io::Result<Self> {
        let netfilter = Netfilter::member(GROUP)?;
        netfilter.set_room(ROOM)?;
        Ok(Self { netfilter, table: table.to_owned(), touches: Touches::default() })
    }

    /// Whether something has arrived, or was lost, that was not read.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn is_there(&self) -> io::Result<bool> {
        let mut arrived = [PollFd::new(&self.netfilter, PollFlags::IN)];
        poll(&mut arrived, Some(&Timespec::default()))?;
        Ok(!arrived[0].revents().is_empty())
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn read(&mut self) -> io::Result<()> {
        let Self { netfilter, table, touches } = self;
        loop {
            match netfilter.drain(|message, attributes| touches.see(table, message, attributes)) {
                // What has come since is read as well.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => touches.is_lost = true,
                read => return read,
            }
        }
    }

    /// Whether somebody has touched the table, or may have.
    pub fn is_touched(&self) -> bool {
        let Touches { whole, is_pending, is_lost, .. } = self.touches;
        whole != 0 || is_pending || is_lost
    }

    /// Whether news were lost: nobody knows who has touched it.
    pub fn is_lost(&self) -> bool {
        self.touches.is_lost
    }

    /// Whether exactly one transaction has touched the table. To who has just made one it is his own.
    pub fn is_touched_once(&self) -> bool {
        let Touches { whole, is_pending, .. } = self.touches;
        whole == 1 && !is_pending && !self.is_lost()
    }

    /// The last generation whose news have been read, if there were any.
    pub fn generation(&self) -> Option<u32> {
        self.touches.generation
    }

    /// Whether everything has been read that was told up to this generation.
    pub fn is_read_to(&self, generation: u32) -> bool {
        // Numbers wrap around.
        self.touches.generation.is_some_and(|read| read.wrapping_sub(generation).cast_signed() >= 0)
    }

    /// Leaves out what has been read so far: the table is known as it is after it.
    pub fn forget(&mut self) {
        let Touches { generation, .. } = self.touches;
        self.touches = Touches { generation, ..Touches::default() };
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netfilter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{NEW_GENERATION, Touches};

    /// An attribute of number 1.
    fn first(payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u16 + 4).to_ne_bytes()[..], &1_u16.to_ne_bytes(), payload].concat()
    }

    #[test]
    fn transactions_that_touch_a_table_are_told_apart() {
        const NEW_RULE: u16 = 10 << 8 | 6;
        let mut touches = Touches::default();
        let mut see = |table: &[u8], generation: u32| {
            touches.see("x", NEW_RULE, &first(table));
            touches.see("x", NEW_RULE, &first(table));
            let pending = touches.is_pending;
            touches.see("x", NEW_GENERATION, &first(&generation.to_be_bytes()));
            (pending, touches.whole, touches.generation)
        };
        assert_eq!(see(b"y\0", 7), (false, 0, Some(7)));
        assert_eq!(see(b"x\0", 8), (true, 1, Some(8)));
        assert_eq!(see(b"xy\0", 9), (false, 1, Some(9)));
        assert_eq!(see(b"x\0", 10), (true, 2, Some(10)));
        // What names no table may be any.
        touches.see("x", NEW_RULE, &[]);
        assert!(touches.is_pending);
    }
}
