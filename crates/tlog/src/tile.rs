//! Names of tiles and entry bundles (C2SP tlog-tiles, "Merkle Tree" and "Log entries").

use std::path::PathBuf;

use crate::bundle::MAX_ENTRY;
use crate::hash::Hash;

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = 256;

/// A row of the tree's files: the entries, or the hashes of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Entries,
    Level(u8),
}

impl Row {
    /// Bytes of its longest file.
    pub(crate) const fn most_bytes(self) -> u64 {
        match self {
            Self::Entries => WIDTH * (2 + MAX_ENTRY as u64),
            Self::Level(_) => WIDTH * Hash::LEN as u64,
        }
    }
}

/// A tile or a bundle: full, or partial with a width from 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tile {
    pub row: Row,
    /// Which one of its row, from 0.
    pub index: u64,
    /// Hashes or entries in it, at most [`WIDTH`].
    pub width: u64,
}

impl Tile {
    /// The file's name below the log's directory.
    pub(crate) fn path(self) -> PathBuf {
        let mut path = self.full_path();
        if self.width < WIDTH {
            path.as_mut_os_string().push(format!(".p/{}", self.width));
        }
        path
    }

    /// The name that it has once it is full.
    fn full_path(self) -> PathBuf {
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let row = match self.row {
            Row::Entries => "entries".to_owned(),
            Row::Level(level) => level.to_string(),
        };
        PathBuf::from(format!("tile/{row}/{number}"))
    }
}

/// Levels of hash tiles that a tree of `size` has.
pub(crate) fn levels(size: u64) -> impl Iterator<Item = u8> {
    (0..8).take_while(move |&level| size >> (8 * u32::from(level)) > 0)
}

/// The unfinished tile of each level, and the unfinished bundle, of a tree of `size`.
pub(crate) fn partials(size: u64) -> Vec<Tile> {
    let partial = |row, hashes: u64| Tile { row, index: hashes / WIDTH, width: hashes % WIDTH };
    let mut all = vec![partial(Row::Entries, size)];
    all.extend(levels(size).map(|level| partial(Row::Level(level), size >> (8 * u32::from(level)))));
    all.retain(|tile| tile.width > 0);
    all
}

/// A hash tile's bytes.
pub(crate) fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile, if `bytes` are whole hashes.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<{ Hash::LEN }>();
    rest.is_empty().then(|| hashes.iter().map(|&hash| Hash(hash)).collect())
}

#[cfg(test)]
mod tests {
    use super::{Row, Tile, partials};

    #[test]
    fn names_are_those_of_the_specification() {
        let name = |row, index, width| Tile { row, index, width }.path().display().to_string();
        assert_eq!(name(Row::Level(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(name(Row::Level(2), 0, 1), "tile/2/000.p/1");
        assert_eq!(name(Row::Entries, 273, 112), "tile/entries/273.p/112");
    }

    #[test]
    fn unfinished_tiles_are_those_of_the_specification() {
        let names =
            |size| partials(size).iter().map(|tile| tile.path().display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(70_000),
            ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
        assert_eq!(names(256), ["tile/1/000.p/1"]);
        assert_eq!(names(0), [""; 0]);
    }
}
