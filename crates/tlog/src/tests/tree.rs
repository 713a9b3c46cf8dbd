use crate::edge::Edge;
use crate::hash::Hash;
use crate::tests::entry;

/// RFC 6962, section 2.1, as it is written there.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_nothing(),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            Hash::of_node(&naive_root(&leaves[..split]), &naive_root(&leaves[split..]))
        }
    }
}

#[test]
fn roots_are_those_of_the_naive_tree() {
    let leaves: Vec<Hash> = (0..1100).map(|index| Hash::of_leaf(&entry(index))).collect();
    let mut edge = Edge::default();
    for size in 0..=leaves.len() {
        if size % 37 == 0 || size % 256 < 2 {
            assert_eq!(edge.root(), naive_root(&leaves[..size]), "of {size}");
        }
        if let Some(&leaf) = leaves.get(size) {
            edge.push(leaf, |_, _| ());
        }
    }
}

#[test]
fn the_root_of_three_levels_needs_no_leaves() {
    let tile: Vec<Hash> = (0..256).map(|index| Hash::of_leaf(&entry(index))).collect();
    let root = naive_root(&tile);
    let mut edge = Edge::default();
    let mut full = Vec::new();
    for _ in 0..300 {
        edge.push_tile(root, |tile, _| full.push(tile.path().display().to_string()));
    }
    assert_eq!(edge.size(), 300 * 256);
    assert_eq!(edge.root(), naive_root(&[root; 300]));
    assert_eq!(full, ["tile/1/000"]);
}
