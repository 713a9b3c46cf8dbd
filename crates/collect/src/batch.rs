//! Batches as bytes: made on a host, and read where nobody is believed.

use std::io::{Read as _, Write as _};
use std::path::Path;

use bulkhead_tlog::{Hash, MAX_ENTRY, Most, Note, Part, Reader, VerifierKey, attest, attested};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::report::Report;
use crate::store::file_name;

/// Bytes of the longest batch: one message of a broker.
pub const MOST_BATCH: usize = 900_000;

/// What a batch begins with.
const MAGIC: &[u8; 8] = b"BULKHDB1";

/// Bytes of the longest batch once it is decompressed.
const MOST_BODY: usize = 8 << 20;

/// Bytes of the longest head.
const MOST_HEAD: usize = 512 << 10;

/// Bytes of the longest signed note in a batch.
const MOST_NOTE: usize = 16 << 10;

/// Hashes in a proof: a tree of 2^64 leaves has no longer one.
const MOST_PROOF: usize = 130;

/// Rotations of a key in one batch.
const MOST_ROTATIONS: usize = 64;

/// Roots in place of pruned entries, in one batch.
const MOST_SKIPPED: usize = 8192;

/// Records in one batch.
const MOST_RECORDS: usize = 65_536;

/// Bytes of records before they are compressed: first, and at least one is taken in any case.
const FIRST_BYTES: usize = 4 << 20;

/// Bytes of the longest name of a node, and of the file that is named after it.
const MOST_NAME: usize = 200;

/// Between the fastest and the smallest: records of drops shrink to a tenth.
const LEVEL: i32 = 3;

/// The window that a frame may ask for, as a power of two: what is asked for is allocated.
const WINDOW: u32 = 23;

/// What a host says at once: a part of its log, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The host's node.
    pub node: String,
    /// When it was made, by the host's clock, ns since 1970.
    pub made: u64,
    /// The key that has signed it. Whether that is the node's only a collector knows.
    pub key: VerifierKey,
    /// The part of the log; it may be without entries.
    pub part: Part,
    /// How the host is.
    pub report: Report,
}

/// A batch as bytes, and where in the log it ends.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The index behind its last entry.
    pub end: u64,
    /// Entries that its checkpoint covers.
    pub size: u64,
}

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// They are more than a batch has.
    #[error("{0} bytes, and a batch has at most {MOST_BATCH}")]
    TooLong(usize),
    /// They do not begin as a batch does.
    #[error("it does not begin as a batch does")]
    NoBatch,
    /// They say, or turn out, to decompress to more.
    #[error("it decompresses to more than it may, which is {MOST_BODY} bytes")]
    Bomb,
    /// They end too early, or something follows.
    #[error("it is cut short, or more follows than it says: {0}")]
    Length(&'static str),
    /// The decompressor's.
    #[error("it cannot be decompressed: {0}")]
    Compression(String),
    /// A member of the head is missing or has another form.
    #[error("its head is malformed: {0}")]
    Head(String),
    /// More of something than a batch has.
    #[error("it has more {0} than a batch may have")]
    TooMany(&'static str),
    /// The signature is not of these bytes, or not by that key.
    #[error("it is not as it was signed: {0}")]
    Unsigned(String),
}

/// The head of a batch, in JSON.
#[derive(Serialize, Deserialize)]
struct Head {
    node: String,
    made: u64,
    key: String,
    from: u64,
    skipped: usize,
    records: usize,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    continues: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    goes_on: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotations: Vec<(u64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pruned: Option<String>,
    report: Report,
}

/// Makes the batch of the log in `directory` from an index on, signed with that log's key.
///
/// # Errors
/// If the log cannot be read, or its key is just being replaced: then the next try will do.
pub fn seal(
    directory: &Path,
    node: &str,
    made: u64,
    from: u64,
    report: &Report,
) -> Result<Sealed, bulkhead_tlog::Error> {
    let reader = Reader::open(directory)?;
    let mut bytes = FIRST_BYTES;
    loop {
        let part = reader.part(from, Most { bytes, entries: MOST_RECORDS, skipped: MOST_SKIPPED })?;
        let end = part.end().unwrap_or(from);
        let sealed = encode(directory, node, made, part, report)?;
        // One record alone always fits.
        if sealed.len() <= MOST_BATCH || bytes < MAX_ENTRY {
            return Ok(Sealed { bytes: sealed, end, size: reader.checkpoint().size });
        }
        bytes /= 2;
    }
}

fn encode(
    directory: &Path,
    node: &str,
    made: u64,
    part: Part,
    report: &Report,
) -> Result<Vec<u8>, bulkhead_tlog::Error> {
    let written =
        |error: std::io::Error| bulkhead_tlog::Error::Key(format!("batch cannot be written: {error}"));
    // The key beside the log has signed the checkpoint, unless it is replaced right now.
    let (_, key) = attest(directory, Hash::of_nothing())?;
    part.note.require(std::slice::from_ref(&key))?;
    let texts = |hashes: &[Hash]| hashes.iter().map(ToString::to_string).collect();
    let head = Head {
        node: node.to_owned(),
        made,
        key: key.to_string(),
        from: part.from,
        skipped: part.skipped.len(),
        records: part.entries.len(),
        checkpoint: part.note.to_string(),
        continues: texts(&part.continues),
        goes_on: texts(&part.goes_on),
        rotations: part.rotations.iter().map(|(index, note)| (*index, note.to_string())).collect(),
        pruned: part.pruned.as_ref().map(ToString::to_string),
        report: report.clone().cut(),
    };
    let head = serde_json::to_vec(&head).map_err(|error| written(error.into()))?;
    let mut content = Vec::new();
    push(&mut content, &head);
    part.skipped.iter().for_each(|hash| content.extend_from_slice(&hash.0));
    for entry in &part.entries {
        content.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        content.extend_from_slice(entry);
    }
    wrap(&attest(directory, digest(&content))?.0, &content).map_err(written)
}

/// What is sent of a signed content.
pub(crate) fn wrap(signature: &Note, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(content.len() + 512);
    push(&mut body, signature.to_string().as_bytes());
    body.extend_from_slice(content);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    let mut encoder = zstd::Encoder::new(bytes, LEVEL)?;
    encoder.write_all(&body)?;
    encoder.finish()
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn digest(content: &[u8]) -> Hash {
    Hash(Sha256::digest(content).into())
}

impl Batch {
    /// Reads a batch, of which nothing is believed: what is allocated is bounded, and its signature must be by the key
    /// that it names.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MOST_BATCH {
            return Err(Malformed::TooLong(bytes.len()));
        }
        let body = decompress(bytes)?;
        let (signature, content) = take(&body, MOST_NOTE).ok_or(Malformed::Length("its signature"))?;
        let (head, mut rest) = take(content, MOST_HEAD).ok_or(Malformed::Length("its head"))?;
        let head: Head = serde_json::from_slice(head).map_err(|error| Malformed::Head(error.to_string()))?;
        let key =
            VerifierKey::parse(&head.key).map_err(|error| Malformed::Head(format!("its key: {error}")))?;
        check_signature(signature, content, &key)?;
        check_node(&head.node).map_err(|what| Malformed::Head(what.to_owned()))?;
        let mut report = head.report;
        for (is_too_many, what) in [
            (head.skipped > MOST_SKIPPED, "skipped bundles"),
            (head.records > MOST_RECORDS, "records"),
            (head.rotations.len() > MOST_ROTATIONS, "rotations"),
            (head.continues.len().max(head.goes_on.len()) > MOST_PROOF, "hashes in a proof"),
            (!report.fits(), "text in its report"),
        ] {
            if is_too_many {
                return Err(Malformed::TooMany(what));
            }
        }
        let mut skipped = Vec::with_capacity(head.skipped);
        for _ in 0..head.skipped {
            let (hash, behind) =
                rest.split_first_chunk::<32>().ok_or(Malformed::Length("skipped bundles"))?;
            skipped.push(Hash(*hash));
            rest = behind;
        }
        let mut entries = Vec::new();
        for _ in 0..head.records {
            let entry = rest.split_first_chunk::<2>().and_then(|(length, behind)| {
                behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
            });
            let (entry, behind) = entry.ok_or(Malformed::Length("records"))?;
            entries.push(entry.to_vec());
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(Malformed::Length("what follows its records"));
        }
        let rotations = head.rotations.into_iter().map(|(index, text)| Ok((index, note(&text)?)));
        let part = Part {
            from: head.from,
            skipped,
            entries,
            note: note(&head.checkpoint)?,
            continues: hashes(&head.continues)?,
            goes_on: hashes(&head.goes_on)?,
            rotations: rotations.collect::<Result<_, Malformed>>()?,
            pruned: head.pruned.as_deref().map(note).transpose()?,
        };
        Ok(Self { node: head.node, made: head.made, key, part, report })
    }
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed::NoBatch)?;
    if magic != MAGIC {
        return Err(Malformed::NoBatch);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Length("its length"))?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > MOST_BODY {
        return Err(Malformed::Bomb);
    }
    let failed = |error: std::io::Error| Malformed::Compression(error.to_string());
    let mut decoder = zstd::Decoder::with_buffer(rest).map_err(failed)?.single_frame();
    decoder.window_log_max(WINDOW).map_err(failed)?;
    let mut body = Vec::new();
    (&mut decoder).take(length as u64 + 1).read_to_end(&mut body).map_err(failed)?;
    match body.len() {
        more if more > length => return Err(Malformed::Bomb),
        less if less < length => return Err(Malformed::Length("its frame")),
        _ => {}
    }
    // One byte more is asked for, so that the frame's own end is read, too.
    if decoder.finish().is_empty() { Ok(body) } else { Err(Malformed::Length("what follows its frame")) }
}

fn take(bytes: &[u8], most: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > most { None } else { rest.split_at_checked(length) }
}

fn check_signature(signature: &[u8], content: &[u8], key: &VerifierKey) -> Result<(), Malformed> {
    let unsigned = |what: &dyn std::fmt::Display| Malformed::Unsigned(what.to_string());
    let text = str::from_utf8(signature).map_err(|error| unsigned(&error))?;
    let signed = Note::parse(text).and_then(|note| attested(&note, std::slice::from_ref(key)));
    match signed.map_err(|error| unsigned(&error))? {
        hash if hash == digest(content) => Ok(()),
        _ => Err(unsigned(&"its content has another digest")),
    }
}

/// That a node can have this name, and a directory one that is made of it.
///
/// # Errors
/// If not, with the reason.
pub(crate) fn check_node(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("its node has no name"),
        name if file_name(name).len() > MOST_NAME => Err("its node's name is too long"),
        name if name.chars().any(char::is_control) => Err("its node's name has control characters"),
        _ => Ok(()),
    }
}

fn note(text: &str) -> Result<Note, Malformed> {
    if text.len() > MOST_NOTE {
        return Err(Malformed::TooMany("text in a signed note"));
    }
    Note::parse(text).map_err(|error| Malformed::Head(error.to_string()))
}

fn hashes(texts: &[String]) -> Result<Vec<Hash>, Malformed> {
    let hash = |text: &String| Hash::parse(text).ok_or_else(|| Malformed::Head("a hash is none".to_owned()));
    texts.iter().map(hash).collect()
}
