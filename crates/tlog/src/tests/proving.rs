use std::sync::LazyLock;

use proptest::prelude::*;
use tempfile::TempDir;

use super::tree::naive_root;
use super::{entry, grow, open};
use crate::{Error, Hash, Log, Proof, Reader, check_consistency, check_inclusion};

const SIZE: u64 = 70_000;

/// One log of three levels for all of them.
static LOG: LazyLock<(TempDir, Vec<Hash>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, SIZE);
    log.close().unwrap();
    let leaves = (0..SIZE).map(|index| Hash::of_leaf(&entry(index))).collect();
    (directory, leaves)
});

/// RFC 6962, section 2.1.1, as it is written there.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if index < left.len() {
        (naive_path(index, left), right)
    } else {
        (naive_path(index - left.len(), right), left)
    };
    path.push(naive_root(sibling));
    path
}

/// RFC 6962, section 2.1.2, as it is written there.
fn naive_consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if old <= left.len() {
        (naive_consistency(old, left, whole), right)
    } else {
        (naive_consistency(old - left.len(), right, false), left)
    };
    path.push(naive_root(sibling));
    path
}

#[test]
fn a_log_of_three_levels_proves_every_part() {
    let (directory, leaves) = &*LOG;
    let reader = Reader::open(directory.path()).unwrap();
    let root = naive_root(leaves);
    assert_eq!((reader.checkpoint().size, reader.checkpoint().root), (SIZE, root));
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, SIZE - 1] {
        let path = reader.inclusion(index).unwrap();
        assert_eq!(path, naive_path(index as usize, leaves), "of {index}");
        check_inclusion(leaves[index as usize], index, SIZE, root, &path).unwrap();
    }
    for old in [0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 69_888, SIZE - 1, SIZE] {
        let path = reader.consistency(old).unwrap();
        let old_root = naive_root(&leaves[..old as usize]);
        assert_eq!(reader.root_at(old).unwrap(), old_root);
        if old > 0 {
            assert_eq!(path, naive_consistency(old as usize, leaves, true), "from {old}");
        }
        check_consistency(old, old_root, SIZE, root, &path).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The checks take what the naive tree proves, of any size, and nothing else.
    #[test]
    fn checks_agree_with_the_naive_tree(size in 1usize..600, at: usize, other: usize, bit in 0usize..256) {
        let leaves = &LOG.1[..size];
        let root = naive_root(leaves);
        let index = at % size;
        let path = naive_path(index, leaves);
        let check = |leaf, index: usize, path: &[Hash]| check_inclusion(leaf, index as u64, size as u64, root, path);
        prop_assert!(check(leaves[index], index, &path).is_ok());
        let other = other % size;
        if other != index {
            prop_assert!(check(leaves[index], other, &path).is_err());
            prop_assert!(check(LOG.1[600], index, &path).is_err());
        }
        let longer: Vec<Hash> = path.iter().copied().chain([root]).collect();
        prop_assert!(check(leaves[index], index, &longer).is_err());
        if let Some((_, shorter)) = path.split_last() {
            prop_assert!(check(leaves[index], index, shorter).is_err());
            let mut changed = path.clone();
            let which = other % path.len();
            changed[which].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(leaves[index], index, &changed).is_err());
        }

        let old = at % size + 1;
        let old_root = naive_root(&leaves[..old]);
        let path = naive_consistency(old, leaves, true);
        let check = |old: usize, old_root, path: &[Hash]| {
            check_consistency(old as u64, old_root, size as u64, root, path)
        };
        prop_assert!(check(old, old_root, &path).is_ok());
        let mut changed_root = old_root;
        changed_root.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check(old, changed_root, &path).is_err());
        let longer: Vec<Hash> = path.iter().copied().chain([root]).collect();
        prop_assert!(check(old, old_root, &longer).is_err());
        for which in 0..path.len() {
            let mut changed = path.clone();
            changed[which].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(old, old_root, &changed).is_err());
            prop_assert!(check(old, old_root, &path[..which]).is_err());
        }
    }

    /// A log of any size, checkpoints anywhere, proves what the naive tree does.
    #[test]
    fn proofs_are_those_of_the_naive_tree(index in 0..SIZE, old in 1..=SIZE) {
        let (directory, leaves) = &*LOG;
        let reader = Reader::open(directory.path()).unwrap();
        let root = reader.checkpoint().root;
        check_inclusion(leaves[index as usize], index, SIZE, root, &reader.inclusion(index).unwrap()).unwrap();
        let old_root = reader.root_at(old).unwrap();
        check_consistency(old, old_root, SIZE, root, &reader.consistency(old).unwrap()).unwrap();
    }
}

#[test]
fn a_proof_file_stands_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _): (Log, _) = open(directory.path());
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    let keys = [log.verifier_key().clone()];
    let text = Reader::open(directory.path()).unwrap().prove(257).unwrap().to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 257\n"), "{text}");
    let proof = Proof::parse(&text).unwrap();
    assert_eq!(proof.to_string(), text);
    assert_eq!(proof.check(&entry(257), &keys).unwrap().size, 300);
    assert!(matches!(proof.check(&entry(258), &keys), Err(Error::Proof(_))));
    let with_extra = text.replacen("index", "extra YQ==\nindex", 1);
    assert_eq!(Proof::parse(&with_extra).unwrap(), proof);
    let moved = text.replacen("index 257", "index 256", 1);
    assert!(matches!(Proof::parse(&moved).unwrap().check(&entry(257), &keys), Err(Error::Proof(_))));
    // Every byte counts.
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let checked = String::from_utf8(bytes).ok().and_then(|text| Proof::parse(&text).ok());
        assert!(checked.is_none_or(|proof| proof.check(&entry(257), &keys).is_err()), "byte {at}");
    }
    let refused = Proof::parse(&text.replacen("index 257", "index 0257", 1)).unwrap_err().to_string();
    assert_eq!(refused, "proof, line 2: no index: one looks like `index 42`");
}
