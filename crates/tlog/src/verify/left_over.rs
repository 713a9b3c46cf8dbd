//! Files below `tile` that no checkpoint covers.

use std::fs;
use std::path::Path;

use super::Report;
use crate::disk;
use crate::error::{Error, Result};
use crate::log::NEXT;
use crate::reader::Reader;
use crate::tile::{self, Row, Tile, WIDTH};

/// Lists them.
pub(super) fn list(reader: &Reader, report: &mut Report) -> Result<()> {
    let root = reader.directory();
    let size = reader.checkpoint().size;
    let partials: Vec<_> = tile::partials(size).into_iter().map(Tile::path).collect();
    let mut directories = vec![root.join("tile")];
    while let Some(directory) = directories.pop() {
        let listed = fs::read_dir(&directory).map_err(Error::io("list", &directory));
        for found in disk::if_there(listed)?.into_iter().flatten() {
            let path = found.map_err(Error::io("list", &directory))?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let Ok(name) = path.strip_prefix(root) else { continue };
            let is_full = full(name).is_some_and(|tile| {
                let level = if let Row::Level(level) = tile.row { u32::from(level) } else { 0 };
                tile.index < size >> (8 * level) >> 8
            });
            if !is_full && !partials.iter().any(|partial| partial == name) {
                report.unfinished.push(name.to_owned());
            }
        }
    }
    if root.join(NEXT).exists() {
        report.unfinished.push(NEXT.into());
    }
    report.unfinished.sort();
    Ok(())
}

/// The full tile that a file is named as.
fn full(name: &Path) -> Option<Tile> {
    let mut parts = name.strip_prefix("tile").ok()?.iter().map(|part| part.to_str());
    let row = match parts.next()?? {
        "entries" => Row::Entries,
        level => Row::Level(level.parse().ok().filter(|level| *level < 8)?),
    };
    let mut index = 0u64;
    for part in parts {
        let part = part?;
        index = index.checked_mul(1000)?.checked_add(part.strip_prefix('x').unwrap_or(part).parse().ok()?)?;
    }
    let tile = Tile { row, index, width: WIDTH };
    (tile.path() == name).then_some(tile)
}
