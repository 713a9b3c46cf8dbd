//! A guard that was put in place, in few bytes: what another process compares the kernel with.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::install::Installed;
use super::state::{Contents, State, read};

/// What a guard is and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    shape: [u8; 32],
    contents: [u8; 32],
}

impl Digest {
    /// Why the kernel does not have this very guard; none if it has.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn difference(&self, instance: &str) -> anyhow::Result<Option<&'static str>> {
        let found = read(instance)?;
        if let Some(absence) = absence(found.as_ref()) {
            return Ok(Some(absence));
        }
        Ok(found.and_then(|State { outline, contents }| {
            if outline.shape != self.shape {
                return Some("chains, rules or sets are not those that were put in place");
            }
            (of(&contents) != self.contents).then_some("what is in the sets is not what was put there")
        }))
    }
}

#[cfg(test)]
impl Digest {
    /// Of what a test calls a guard.
    pub fn of_words(words: &str) -> Self {
        Self { shape: Sha256::digest(words).into(), contents: [0; 32] }
    }
}

impl Installed {
    /// What another process compares the kernel with.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { shape: self.shape, contents: of(&self.contents) }
    }
}

/// Why an instance's guard drops nothing at all, whatever was put in place.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn is_absent(instance: &str) -> anyhow::Result<Option<&'static str>> {
    Ok(absence(read(instance)?.as_ref()))
}

fn absence(found: Option<&State>) -> Option<&'static str> {
    match found {
        None => Some("the table is gone"),
        Some(State { outline, .. }) => outline.is_dormant.then_some("the table is switched off"),
    }
}

fn of(contents: &Contents) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (set, elements) in contents {
        digest.update((set.len() as u64).to_le_bytes());
        digest.update(set);
        digest.update((elements.len() as u64).to_le_bytes());
        elements.iter().for_each(|element| digest.update(element.to_le_bytes()));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{Contents, of};

    #[test]
    fn what_is_in_another_set_is_other_contents() {
        let of = |sets: &[(&str, &[u128])]| {
            of(&sets
                .iter()
                .map(|(set, elements)| ((*set).to_owned(), elements.to_vec()))
                .collect::<Contents>())
        };
        let one = of(&[("a", &[1, 2]), ("b", &[])]);
        assert_eq!(one, of(&[("b", &[]), ("a", &[1, 2])]));
        for other in
            [of(&[("a", &[1]), ("b", &[2])]), of(&[("a", &[1, 2])]), of(&[("a", &[1, 3]), ("b", &[])])]
        {
            assert_ne!(one, other);
        }
    }
}
