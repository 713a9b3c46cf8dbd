//! Files below `tile` that no checkpoint covers.

use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result};
use crate::tile::{self, Row, Tile, WIDTH};

/// Lists them, for checkpoints of `sizes`, with names below the log's directory.
pub(crate) fn list(root: &Path, sizes: &[u64]) -> Result<Vec<PathBuf>> {
    let partials: Vec<_> = sizes.iter().flat_map(|size| tile::partials(*size)).map(Tile::path).collect();
    let size = sizes.iter().copied().max().unwrap_or(0);
    let mut directories = vec![root.join("tile")];
    let mut all = Vec::new();
    while let Some(directory) = directories.pop() {
        for found in disk::list(&directory)?.into_iter().flatten() {
            let found = found.map_err(Error::io("list", &directory))?;
            let path = found.path();
            // A link is followed nowhere.
            if found.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
                continue;
            }
            let Ok(name) = path.strip_prefix(root) else { continue };
            let is_full = full(name).is_some_and(|tile| {
                let level = if let Row::Level(level) = tile.row { u32::from(level) } else { 0 };
                tile.index < size >> (8 * level) >> 8
            });
            if !is_full && !partials.iter().any(|partial| partial == name) {
                all.push(name.to_owned());
            }
        }
    }
    all.sort();
    Ok(all)
}

/// Removes the partial ones, which nothing would ever replace. Full ones are written anew.
pub(crate) fn remove_partials(root: &Path, sizes: &[u64]) -> Result<()> {
    let is_partial = |name: &PathBuf| name.parent().is_some_and(|parent| parent.extension().is_some());
    list(root, sizes)?
        .iter()
        .filter(|&name| is_partial(name))
        .try_for_each(|name| disk::remove(&root.join(name)))
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
