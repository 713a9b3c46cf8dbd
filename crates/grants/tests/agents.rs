//! Signatures by ssh-agent: OpenSSH's own, and one of the test's that has a device of software.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use bulkhead_grants::agent::Agent;
use bulkhead_grants::{Error, People, Person, PublicKey, SecretKey};
use bulkhead_testkit::SshAgent;
use common::{device, person, signed, string};

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "bob@laptop", "-f"])
        .arg(path));
}

#[test]
fn openssh_signs_by_file_and_by_agent_alike() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (socket, file) = (path("agent"), path("bob"));
    keygen(&file, "ed25519", "");
    keygen(&path("other"), "ecdsa", "");
    let _agent = SshAgent::start(&socket);
    for name in ["bob", "other"] {
        run(Command::new("ssh-add").arg("-q").arg(path(name)).env("SSH_AUTH_SOCK", &socket));
    }
    let public = PublicKey::parse(&std::fs::read_to_string(path("bob.pub")).unwrap()).unwrap();
    let secret = SecretKey::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(secret.public(), public);
    let mut agent = Agent::new(UnixStream::connect(&socket).unwrap());
    // Keys of other types are passed over.
    assert_eq!(agent.keys().unwrap(), [(public.clone(), "bob@laptop".to_owned())]);
    let print = Command::new("ssh-keygen").arg("-lf").arg(path("bob.pub")).output().unwrap();
    assert!(String::from_utf8_lossy(&print.stdout).contains(&public.fingerprint()));
    let (mut by_agent, mut by_file) = (signed(&[("carol", 3)]), signed(&[("carol", 3)]));
    agent.sign(&mut by_agent, "bob", &public).unwrap();
    secret.sign(&mut by_file, "bob").unwrap();
    assert_eq!(by_agent, by_file);
    let bob = Person { name: "bob".to_owned(), keys: vec![public] };
    let people = People::new(vec![bob, person("carol", 3)]).unwrap();
    assert_eq!(people.quorum(&by_agent, 2, None, Some("alice")).unwrap(), ["carol", "bob"]);
    // A key that the agent does not have.
    let error = agent.sign(&mut by_agent, "carol", &common::key(3).public()).unwrap_err();
    assert!(error.to_string().contains("does not sign"), "{error}");
}

#[test]
fn a_key_with_a_passphrase_is_for_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    keygen(&file, "ed25519", "a long passphrase");
    let error = SecretKey::parse(&std::fs::read_to_string(&file).unwrap()).unwrap_err();
    assert!(error.to_string().contains("has a passphrase: `ssh-add` it"), "{error}");
    keygen(&directory.path().join("other"), "ecdsa", "");
    let other = std::fs::read_to_string(directory.path().join("other")).unwrap();
    assert!(SecretKey::parse(&other).unwrap_err().to_string().contains("ecdsa"));
    let public = std::fs::read_to_string(directory.path().join("other.pub")).unwrap();
    assert!(PublicKey::parse(&public).unwrap_err().to_string().contains("is not taken"));
}

/// An agent that has one key in a device, and answers once.
fn serve(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> UnixStream {
    let (mut there, here) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut length = [0; 4];
        there.read_exact(&mut length).unwrap();
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        there.read_exact(&mut request).unwrap();
        there.write_all(&answer(&request)).unwrap();
    });
    here
}

fn signing(flags: u8) -> Result<usize, Error> {
    let mut note = signed(&[]);
    let stream = serve(move |request| {
        let key = device(4);
        let expected = [vec![13], string(&key.blob())].concat();
        let message = request.strip_prefix(&expected[..]).unwrap();
        let (head, signature) = key.answer(&message[4..message.len() - 4], flags, 9);
        let signature = [string(b"sk-ssh-ed25519@openssh.com"), string(&signature), head.to_vec()].concat();
        string(&[vec![14], string(&signature)].concat())
    });
    Agent::new(stream).sign(&mut note, "dora", &device(4).public())?;
    let dora = Person { name: "dora".to_owned(), keys: vec![device(4).public()] };
    People::new(vec![dora]).unwrap().quorum(&note, 1, None, None).map(|names| names.len())
}

#[test]
fn a_device_signs_by_the_agent() {
    assert_eq!(signing(1), Ok(1));
    // Nobody has touched it: nothing is added that no host would take.
    assert!(signing(0).unwrap_err().to_string().contains("with a touch"));
}

#[test]
fn what_is_no_answer_is_refused() {
    let answers: [&[u8]; 6] =
        [&[0, 0, 0, 1, 5], &[0, 0, 0, 0], &[0xff; 4], &[0, 0, 0, 9, 14], &[0, 0, 0, 1, 14], &[]];
    for answer in answers {
        let mut note = signed(&[]);
        let result = Agent::new(serve(move |_| answer.to_vec())).sign(&mut note, "dora", &device(4).public());
        assert!(result.is_err() && note.signatures().is_empty(), "{answer:?}");
        let answer = answer.to_vec();
        assert!(Agent::new(serve(move |_| answer)).keys().is_err());
    }
}
