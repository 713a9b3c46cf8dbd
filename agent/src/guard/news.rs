//! Whether anybody has touched a table, as the kernel tells of every transaction.

use std::io;

use super::netlink::{NFTABLES, Netfilter, attribute, name, number};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

/// `NFT_MSG_NEWGEN`, the last message of a transaction.
const NEW_GENERATION: u16 = (NFTABLES as u16) << 8 | 15;

/// News of one table since it was opened.
#[derive(Debug)]
pub struct News {
    netfilter: Netfilter,
    table: String,
    /// The last generation whose news have been read, if there were any.
    pub generation: Option<u32>,
    /// Somebody has touched the table, or news were lost.
    pub is_touched: bool,
}

impl News {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(table: &str) -> io::Result<Self> {
        let netfilter = Netfilter::member(GROUP)?;
        Ok(Self { netfilter, table: table.to_owned(), generation: None, is_touched: false })
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn read(&mut self) -> io::Result<()> {
        let Self { netfilter, table, generation, is_touched } = self;
        let read = netfilter.drain(|message, attributes| {
            if message == NEW_GENERATION {
                // NFTA_GEN_ID
                *generation = attribute(attributes, 1).and_then(number).or(*generation);
            } else {
                // The table's name has number 1 in all other messages.
                *is_touched |= attribute(attributes, 1).is_none_or(|found| name(found) == table);
            }
        });
        match read {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.is_touched = true;
                Ok(())
            }
            read => read,
        }
    }
}
