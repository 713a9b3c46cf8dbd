//! People, their keys, and how many different ones have signed.

use crate::error::{Error, Result};
use crate::key::{PublicKey, Unfit};
use crate::note::Note;

/// Somebody, and every key that is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name that stands before their signatures.
    pub name: String,
    /// Their keys: however many of them sign, it is one person.
    pub keys: Vec<PublicKey>,
}

/// Whose signatures are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People(Vec<Person>);

impl People {
    /// These people.
    ///
    /// # Errors
    ///
    /// If a name is none or is there twice, somebody has no key, or a key is two people's.
    pub fn new(people: Vec<Person>) -> Result<Self> {
        for (index, person) in people.iter().enumerate() {
            check_name(&person.name)?;
            if person.keys.is_empty() {
                return Err(Error::Key(format!("{} has no key", person.name)));
            }
            for other in &people[..index] {
                if other.name == person.name {
                    return Err(Error::Key(format!(
                        "{} is there twice: list all keys under one name",
                        person.name
                    )));
                }
                if let Some(key) =
                    person.keys.iter().find(|key| other.keys.iter().any(|known| known.is_of_same_pair(key)))
                {
                    let (one, two, print) = (&other.name, &person.name, key.fingerprint());
                    return Err(Error::Key(format!(
                        "{one} and {two} have the same key, {print}: a key is one person's"
                    )));
                }
            }
        }
        Ok(Self(people))
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Person] {
        &self.0
    }

    /// Which of them have signed a note, each once, in the order of the note, and what of it does not count.
    ///
    /// # Errors
    ///
    /// If a signature says that it is by a key of theirs and does not fit, or nobody has touched the device for it.
    fn signers(&self, note: &Note) -> Result<(Vec<&str>, Vec<String>)> {
        let mut signers: Vec<&str> = Vec::new();
        let mut passed_over = Vec::new();
        for signature in note.signatures() {
            let name = &signature.name;
            let Some(person) = self.0.iter().find(|person| person.name == *name) else {
                passed_over.push(format!("nobody here knows {name}"));
                continue;
            };
            let Some(key) = person.keys.iter().find(|key| key.id(name) == signature.id) else {
                passed_over.push(format!("{name} signed with a key that is not known here"));
                continue;
            };
            match key.check(note.text(), &signature.bytes) {
                Ok(()) if signers.contains(&&**name) => {
                    passed_over.push(format!("{name} signed with more than one key, and is one person"));
                }
                Ok(()) => signers.push(&person.name),
                Err(Unfit::Bad) => return Err(Error::BadSignature { name: name.clone() }),
                Err(Unfit::Untouched) => return Err(Error::Untouched { name: name.clone() }),
            }
        }
        Ok((signers, passed_over))
    }

    /// The people who have signed a note, if they are enough: at least `need` different ones, of those named in `by`
    /// (none: of all), and not who has asked for it.
    ///
    /// # Errors
    ///
    /// If a signature does not fit, or they are too few, and what does not count.
    pub fn quorum(
        &self,
        note: &Note,
        need: usize,
        by: Option<&[&str]>,
        requester: Option<&str>,
    ) -> Result<Vec<String>> {
        let (signers, mut why) = self.signers(note)?;
        let mut counted = Vec::new();
        for name in signers {
            if requester.is_some_and(|requester| requester.eq_ignore_ascii_case(name)) {
                why.push(format!("{name} has asked for it, and cannot approve it"));
            } else if by.is_some_and(|by| !by.contains(&name)) {
                why.push(format!("{name} may not approve this"));
            } else {
                counted.push(name.to_owned());
            }
        }
        if counted.len() < need {
            return Err(Error::TooFew { have: counted.len(), need, why });
        }
        Ok(counted)
    }
}

/// Whether a name can be a person's: it stands in signature lines, in events and on command lines.
///
/// # Errors
///
/// If it cannot.
pub fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Err(Error::Name(name.escape_debug().take(80).collect()));
    }
    Ok(())
}
