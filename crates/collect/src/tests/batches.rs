//! What is no batch is refused with its reason, and costs nobody anything.

use bulkhead_tlog::{Hash, Note, attest};
use proptest::prelude::{ProptestConfig, any};
use proptest::{prop_assert, proptest};
use sha2::{Digest as _, Sha256};

use super::Host;
use crate::batch::wrap;
use crate::{Batch, MOST_BATCH, Malformed};

/// A batch's content, unpacked: what stands before it is its signature.
pub(super) fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let body = zstd::decode_all(&bytes[12..]).unwrap();
    let signature = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
    body[4 + signature..].to_vec()
}

fn signature(host: &Host, content: &[u8]) -> Note {
    attest(host.directory.path(), Hash(Sha256::digest(content).into())).unwrap().0
}

/// What a host itself would send that says something else.
pub(super) fn signed(host: &Host, content: &[u8]) -> Vec<u8> {
    wrap(&signature(host, content), content).unwrap()
}

/// The content with another head.
pub(super) fn with_head(content: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let length = u32::from_be_bytes(content[..4].try_into().unwrap()) as usize;
    let mut head: serde_json::Value = serde_json::from_slice(&content[4..4 + length]).unwrap();
    change(&mut head);
    let head = serde_json::to_vec(&head).unwrap();
    [&(head.len() as u32).to_be_bytes(), &head[..], &content[4 + length..]].concat()
}

#[test]
fn a_batch_is_read_as_it_was_made() {
    let mut host = Host::new("db-1");
    host.grow(600);
    let sealed = host.seal(0);
    let batch = Batch::read(&sealed.bytes).unwrap();
    assert_eq!((sealed.end, sealed.size), (600, 600));
    assert_eq!((batch.node.as_str(), batch.made, batch.report), ("db-1", host.made, host.report.clone()));
    assert_eq!(batch.key, *host.log.verifier_key());
    assert_eq!(batch.part.entries.len(), 600);
    assert_eq!(batch.part.entries[599], super::record("db-1", 599));
    // Records of drops are much alike.
    assert!(sealed.bytes.len() < 600 * 20, "{}", sealed.bytes.len());
    let empty = host.seal(600);
    assert!(empty.bytes.len() < 1500, "{}", empty.bytes.len());
    assert!(Batch::read(&empty.bytes).unwrap().part.entries.is_empty());
}

#[test]
fn what_does_not_shrink_is_sent_in_several() {
    let mut host = Host::new("noise");
    for _ in 0..40 {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(65_535).collect();
        host.log.append(&noise).unwrap();
    }
    host.log.checkpoint().unwrap();
    let (mut from, mut count) = (0, 0);
    while from < 40 {
        let sealed = host.seal(from);
        assert!(sealed.bytes.len() <= MOST_BATCH && sealed.end > from, "{}", sealed.bytes.len());
        assert_eq!(Batch::read(&sealed.bytes).unwrap().part.end(), Some(sealed.end));
        (from, count) = (sealed.end, count + 1);
    }
    assert!((3..=6).contains(&count), "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_altered_byte_is_refused(at in any::<proptest::sample::Index>(), by in 1..=255u8) {
        let mut host = Host::new("db-1");
        host.grow(30);
        let mut bytes = host.seal(0).bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        // Where compression has bits that mean nothing, what is read is what was signed.
        if let Ok(read) = Batch::read(&bytes) {
            bytes[at] ^= by;
            prop_assert!(read == Batch::read(&bytes).unwrap(), "byte {at}");
        }
    }

    #[test]
    fn what_is_no_batch_never_panics(bytes: Vec<u8>, cut in any::<proptest::sample::Index>()) {
        prop_assert!(Batch::read(&bytes).is_err());
        let mut host = Host::new("db-1");
        host.grow(5);
        let sealed = host.seal(0).bytes;
        let cut = cut.index(sealed.len());
        prop_assert!(Batch::read(&sealed[..cut]).is_err());
        let more = [&sealed[..], &bytes].concat();
        prop_assert!(bytes.is_empty() || Batch::read(&more).is_err());
        let inside = [b"BULKHDB1\0\0\x01\0".as_slice(), &zstd::encode_all(&bytes[..], 1).unwrap()].concat();
        prop_assert!(Batch::read(&inside).is_err());
    }
}

#[test]
fn every_reason_is_told() {
    let mut host = Host::new("db-1");
    host.grow(10);
    let sealed = host.seal(0).bytes;
    let content = unpacked(&sealed);
    assert_eq!(Batch::read(&signed(&host, &content)).unwrap(), Batch::read(&sealed).unwrap());
    assert!(matches!(Batch::read(&vec![0; MOST_BATCH + 1]), Err(Malformed::TooLong(_))));
    assert!(matches!(Batch::read(b"BULKHDB2 and so on"), Err(Malformed::NoBatch)));
    // It says that it is larger than any.
    let mut bomb = sealed.clone();
    bomb[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(Batch::read(&bomb), Err(Malformed::Bomb)));
    // It says that it is small, and is 4 GiB.
    let mut encoder = zstd::Encoder::new(sealed[..12].to_vec(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..4096).for_each(|_| std::io::Write::write_all(&mut encoder, &zeros).unwrap());
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < MOST_BATCH);
    assert!(matches!(Batch::read(&bomb), Err(Malformed::Bomb)));
    // A window of 128 MiB is not allocated.
    let mut encoder = zstd::Encoder::new(sealed[..12].to_vec(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &[1; 100]).unwrap();
    assert!(matches!(Batch::read(&encoder.finish().unwrap()), Err(Malformed::Compression(_))));
    // A stranger's signature, and none.
    let other = Host::new("other");
    let forged = wrap(&signature(&other, &content), &content).unwrap();
    assert!(matches!(Batch::read(&forged), Err(Malformed::Unsigned(_))));
    let another = with_head(&content, |head| head["report"]["state"] = "audit".into());
    let forged = wrap(&signature(&host, &content), &another).unwrap();
    assert!(matches!(Batch::read(&forged), Err(Malformed::Unsigned(_))));
    // A checkpoint is no attestation.
    let checkpoint = host.log.note().unwrap();
    assert!(matches!(Batch::read(&wrap(&checkpoint, &content).unwrap()), Err(Malformed::Unsigned(_))));
    // What the host itself signs is bounded, too.
    let read =
        |change: &dyn Fn(&mut serde_json::Value)| Batch::read(&signed(&host, &with_head(&content, change)));
    assert!(matches!(read(&|head| head["records"] = 11.into()), Err(Malformed::Length("records"))));
    assert!(matches!(read(&|head| head["records"] = 9.into()), Err(Malformed::Length(_))));
    assert!(matches!(read(&|head| head["records"] = u64::MAX.into()), Err(Malformed::TooMany(_))));
    assert!(matches!(read(&|head| head["skipped"] = 8193.into()), Err(Malformed::TooMany(_))));
    assert!(matches!(read(&|head| head["skipped"] = 8192.into()), Err(Malformed::Length(_))));
    assert!(matches!(read(&|head| head["continues"] = vec!["x"; 131].into()), Err(Malformed::TooMany(_))));
    assert!(matches!(read(&|head| head["goes_on"] = vec!["x"].into()), Err(Malformed::Head(_))));
    assert!(matches!(read(&|head| head["node"] = "".into()), Err(Malformed::Head(_))));
    assert!(matches!(read(&|head| head["node"] = "a\nb".into()), Err(Malformed::Head(_))));
    assert!(matches!(read(&|head| head["node"] = "/".repeat(100).into()), Err(Malformed::Head(_))));
    assert!(matches!(
        read(&|head| head["checkpoint"] = "x".repeat(20_000).into()),
        Err(Malformed::TooMany(_))
    ));
    let long = |head: &mut serde_json::Value| head["report"]["version"] = "x".repeat(513).into();
    assert!(matches!(read(&long), Err(Malformed::TooMany(_))));
    let many = |head: &mut serde_json::Value| head["report"]["gaps"] = vec!["x"; 33].into();
    assert!(matches!(read(&many), Err(Malformed::TooMany(_))));
    // What a newer agent says besides is passed over.
    let newer = read(&|head| {
        head["report"]["weather"] = "fine".into();
        head["report"]["state"] = "dreaming".into();
    });
    assert_eq!(newer.unwrap().report.state, crate::State::Unknown);
}
