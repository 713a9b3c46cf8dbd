//! Anchors: a directory, a receiver over HTTP, and a witness that checks as C2SP tlog-witness demands.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_api::status::Anchor;
use bulkhead_http::Tls;
use bulkhead_sinks::{AnchorKind, AnchorSettings, Anchors};
use bulkhead_tlog::{
    Algorithm, Checkpoint, Hash, Log, Note, Options, SignerKey, Trust, VerifierKey, check_consistency, verify,
};

use crate::http::read_request;
use crate::memory::record;
use crate::{LIMIT, wait_until};

/// A log that grows.
struct Growing {
    directory: tempfile::TempDir,
    log: Log,
}

impl Growing {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(directory.path(), &Options::new("bulkhead/h")).unwrap();
        Self { directory, log }
    }

    fn to(&mut self, size: u64) {
        for number in self.log.size()..size {
            self.log.append(&record(number, "h")).unwrap();
        }
        self.log.checkpoint().unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Records that witnesses have signed for, after a check of everything.
    fn witnessed(&self, witness: &VerifierKey) -> bool {
        let (keys, witnesses) = ([self.log.verifier_key().clone()], [witness.clone()]);
        let trust = Trust { keys: &keys, witnesses: &witnesses, ..Trust::default() };
        verify(self.path(), &trust).unwrap().is_whole()
    }
}

fn start(kind: AnchorKind, log: &Growing) -> Anchors {
    let settings = AnchorSettings { name: "test".to_owned(), every: Duration::from_millis(50), kind };
    Anchors::start(vec![settings], log.path()).unwrap()
}

fn wait_for(anchors: &Anchors, what: &str, is_so: impl Fn(&Anchor) -> bool) -> Anchor {
    wait_until(what, || anchors.progress().remove(0), is_so)
}

/// A server of HTTP that answers each request: path and body → status and body. What it was asked.
fn server(
    mut answer: impl FnMut(&str, &str) -> (u16, String) + Send + 'static,
) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let Some((head, body)) = read_request(&mut stream) else { continue };
            let body = String::from_utf8(body).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let (status, text) = answer(path, &body);
            let length = text.len();
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).unwrap();
            // Not everybody wants to know.
            let _ = sender.send(body);
        }
    });
    (url, asked)
}

/// A witness, by C2SP tlog-witness.
struct Witness {
    key: SignerKey,
    log: VerifierKey,
    seen: Checkpoint,
}

impl Witness {
    fn answer(&mut self, path: &str, body: &str) -> (u16, String) {
        let Some((head, note)) = body.split_once("\n\n") else { return (400, String::new()) };
        let mut lines = head.lines();
        let old = lines.next().and_then(|line| line.strip_prefix("old ")?.parse::<u64>().ok());
        let proof: Option<Vec<Hash>> = lines.map(Hash::parse).collect();
        let (Some(old), Some(proof), Ok(mut note)) = (old, proof, Note::parse(note)) else {
            return (400, String::new());
        };
        if path != "/add-checkpoint" {
            return (404, String::new());
        }
        if note.require(std::slice::from_ref(&self.log)).is_err() {
            return (403, String::new());
        }
        let new = Checkpoint::parse(note.text()).unwrap();
        if old > new.size {
            return (400, String::new());
        }
        if old != self.seen.size {
            return (409, format!("{}\n", self.seen.size));
        }
        if check_consistency(old, self.seen.root, new.size, new.root, &proof).is_err() {
            return (422, String::new());
        }
        self.seen = new;
        note.sign(&self.key, 1_800_000_000);
        (200, note.to_string().lines().last().map(|line| format!("{line}\n")).unwrap())
    }
}

/// A witness that has seen nothing, its URL, and its key.
fn witness(log: &Growing) -> (Arc<Mutex<Witness>>, String, VerifierKey) {
    let key = SignerKey::generate("witness.example", Algorithm::Cosignature).unwrap();
    let public = key.public().clone();
    let nothing = Checkpoint { origin: "bulkhead/h".to_owned(), size: 0, root: Hash::of_nothing() };
    let witness = Arc::new(Mutex::new(Witness { key, log: log.log.verifier_key().clone(), seen: nothing }));
    let shared = witness.clone();
    let (url, _) = server(move |path, body| shared.lock().unwrap().answer(path, body));
    (witness, url, public)
}

fn of_witness(url: &str, key: &VerifierKey) -> AnchorKind {
    AnchorKind::Witness {
        url: url.to_owned(),
        key: Box::new(key.clone()),
        headers: None,
        tls: Tls::default(),
    }
}

#[test]
fn a_witness_signs_what_continues_what_it_has_seen() {
    let mut log = Growing::new();
    let (witness, url, key) = witness(&log);
    let anchors = start(of_witness(&url, &key), &log);
    for size in [1, 255, 256, 1000] {
        log.to(size);
        wait_for(&anchors, "witnessed", |anchor| anchor.records == size && anchor.problem.is_none());
        assert!(log.witnessed(&key), "{size}");
        assert_eq!(witness.lock().unwrap().seen.size, size);
    }
    anchors.end(LIMIT);
    // An agent that starts anew does not know what the witness has seen; that tells it.
    log.to(1300);
    let anchors = start(of_witness(&url, &key), &log);
    wait_for(&anchors, "witnessed", |anchor| anchor.records == 1300);
    anchors.end(LIMIT);
}

#[test]
fn a_log_that_does_not_continue_what_a_witness_has_seen_is_not_signed_and_told_of() {
    let mut log = Growing::new();
    let (witness, url, key) = witness(&log);
    log.to(600);
    let anchors = start(of_witness(&url, &key), &log);
    wait_for(&anchors, "witnessed", |anchor| anchor.records == 600);
    anchors.end(LIMIT);
    let cosigned = fs::read(log.path().join("cosigned")).unwrap();

    // Somebody with the key writes the log anew: shorter, and as long with other records.
    let again = Growing::new();
    drop(again.log);
    fs::copy(log.path().join("key"), again.directory.path().join("key")).unwrap();
    for left in ["checkpoint", "pending", "vkey"] {
        drop(fs::remove_file(again.directory.path().join(left)));
    }
    let (other, _) = Log::open(again.directory.path(), &Options::new("bulkhead/h")).unwrap();
    assert_eq!(other.verifier_key(), log.log.verifier_key());
    let mut other = Growing { directory: again.directory, log: other };
    other.to(500);
    let anchors = start(of_witness(&url, &key), &other);
    let told = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some()).problem.unwrap();
    assert!(told.contains("has seen 600 records of this log, which has 500"), "{told}");
    for number in 500..700 {
        other.log.append(&record(number + 1, "h")).unwrap();
    }
    other.log.checkpoint().unwrap();
    let is_refused = |anchor: &Anchor| anchor.problem.as_ref().is_some_and(|told| told.contains("422"));
    wait_for(&anchors, "refused for its proof", is_refused);
    assert_eq!(witness.lock().unwrap().seen.size, 600);
    assert!(!other.path().join("cosigned").exists());
    fs::write(other.path().join("cosigned"), cosigned).unwrap();
    assert!(!other.witnessed(&key));
    anchors.end(LIMIT);
}

#[test]
fn what_a_witness_answers_is_not_believed() {
    let mut log = Growing::new();
    let key = SignerKey::generate("witness.example", Algorithm::Cosignature).unwrap();
    let stranger = SignerKey::generate("witness.example", Algorithm::Cosignature).unwrap();
    log.to(10);
    let of_another = {
        let mut note = log.log.note().unwrap();
        note.sign(&stranger, 1);
        note.to_string().lines().last().unwrap().to_owned() + "\n"
    };
    let answers = [
        (200, String::new()),
        (200, "\n\n\n".to_owned()),
        (200, "no signature".to_owned()),
        (200, of_another),
        (200, "— witness.example AAAAAAAAAAAA\n".repeat(2000)),
        (409, "many".to_owned()),
        (409, "18446744073709551615".to_owned()),
        (409, "18446744073709551616".to_owned()),
        (409, "3".to_owned()),
        (301, String::new()),
        (500, "x".repeat(1 << 20)),
    ];
    for (status, body) in answers {
        let shown = format!("{status} {body:.40}");
        let (url, asked) = server(move |_, _| (status, body.clone()));
        let anchors = start(of_witness(&url, key.public()), &log);
        let anchor = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some());
        assert_eq!((anchor.records, anchor.age_seconds), (0, None), "{shown}");
        assert!(asked.try_iter().count() > 0);
        assert!(!log.path().join("cosigned").exists(), "{shown}");
        anchors.end(LIMIT);
    }
}

#[test]
fn a_receiver_gets_each_checkpoint_that_is_new_until_it_has_it() {
    let mut log = Growing::new();
    let mut count = 0;
    let (url, asked) = server(move |_, _| {
        count += 1;
        (if count < 3 { 503 } else { 201 }, String::new())
    });
    let kind =
        AnchorKind::Http { url: format!("{url}/kept?token=secret"), headers: None, tls: Tls::default() };
    log.to(3);
    let anchors = start(kind, &log);
    let told = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some()).problem.unwrap();
    assert!(told.contains("/kept answers 503") && !told.contains("secret"), "{told}");
    wait_for(&anchors, "taken", |anchor| anchor.records == 3 && anchor.problem.is_none());
    // Nothing new: nothing is sent.
    std::thread::sleep(Duration::from_millis(300));
    log.to(5);
    // An agent that ends takes the last one out.
    anchors.end(LIMIT);
    let kept: Vec<Note> = asked.try_iter().map(|note| Note::parse(&note).unwrap()).collect();
    let sizes = |note: &Note| Checkpoint::parse(note.text()).unwrap().size;
    assert_eq!(kept.iter().map(sizes).collect::<Vec<_>>(), [3, 3, 3, 5]);
    let keys = [log.log.verifier_key().clone()];
    let trust = Trust { keys: &keys, anchors: &kept, ..Trust::default() };
    assert!(verify(log.path(), &trust).unwrap().is_whole());
}

/// The file of a log's last checkpoint.
fn file_name(log: &Growing) -> String {
    let Checkpoint { size, root, .. } = log.log.signed();
    let root: String = root.0[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bulkhead_h-{size:012}-{root}.checkpoint")
}

#[test]
fn a_directory_keeps_what_it_has() {
    let mut log = Growing::new();
    let kept = tempfile::tempdir().unwrap();
    let path = kept.path().join("mounted");
    log.to(3);
    let anchors = start(AnchorKind::Directory { path: path.clone() }, &log);
    let told = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some()).problem.unwrap();
    let first = file_name(&log);
    assert!(told.contains(&format!("mounted/{first}: No such file")), "{told}");
    assert!(!path.exists(), "one that is not mounted is not made");
    fs::create_dir(&path).unwrap();
    wait_for(&anchors, "taken", |anchor| anchor.records == 3 && anchor.problem.is_none());
    let mode = fs::metadata(path.join(&first)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444, "whoever verifies need not be root");
    anchors.end(LIMIT);

    // What is there stays, whatever it is: what a kill has cut short, a link, and what hangs whoever opens it.
    let aim = kept.path().join("aim");
    fs::write(&aim, "aim").unwrap();
    for (size, kind) in [(5, "half"), (7, "link"), (9, "fifo")] {
        log.to(size);
        let name = path.join(file_name(&log));
        match kind {
            "half" => fs::write(&name, "half").unwrap(),
            "link" => std::os::unix::fs::symlink(&aim, &name).unwrap(),
            _ => rustix::fs::mkfifoat(rustix::fs::CWD, &name, 0o600.into()).unwrap(),
        }
        let anchors = start(AnchorKind::Directory { path: path.clone() }, &log);
        let told = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some()).problem.unwrap();
        assert!(told.contains(&file_name(&log)), "{kind}: {told}");
        log.to(size + 1);
        wait_for(&anchors, "taken", |anchor| anchor.records == size + 1 && anchor.problem.is_none());
        anchors.end(LIMIT);
    }
    assert_eq!(fs::read_to_string(&aim).unwrap(), "aim");
}

#[test]
fn the_log_itself_is_no_place_for_what_it_is_compared_with() {
    let mut log = Growing::new();
    log.to(3);
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(log.path(), &link).unwrap();
    let below = log.path().join("kept");
    fs::create_dir(&below).unwrap();
    for path in [log.path().to_owned(), link, below] {
        let anchors = start(AnchorKind::Directory { path: path.clone() }, &log);
        let told = wait_for(&anchors, "refused", |anchor| anchor.problem.is_some()).problem.unwrap();
        assert!(told.contains("lies in the log itself"), "{}: {told}", path.display());
        anchors.end(LIMIT);
        assert!(!path.join(file_name(&log)).exists(), "{}", path.display());
    }
}
