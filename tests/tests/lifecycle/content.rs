//! A change carries the texts of its files: the agent sees none of them, and keeps what it was sent.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_testkit::lab;

use crate::site::{OTHER, Over, Site, WEB, policy};

/// A shell command by the server, with mounts of its own.
fn shell(site: &Site, words: &str) -> Output {
    let bulkhead = lab::bulkhead().unwrap();
    let words = words.replace("bulkhead", &format!("{} --instance {}", bulkhead.display(), site.instance()));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &words]);
    site.namespace("server").prepare(&mut command).unwrap();
    lab::run_within(&mut command, Duration::from_secs(60)).unwrap()
}

#[track_caller]
fn done(site: &Site, words: &str) {
    let output = shell(site, words);
    assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
}

#[test]
fn what_only_the_caller_can_see_is_enforced() {
    let mut site = Site::new("content", Over::Ethernet, &[WEB]);
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    site.write("candidate.hujson", &policy(&[OTHER]));
    let candidate = site.path("candidate.hujson");

    // A pipe, which the agent could not open by any name.
    done(&site, &format!("cat {candidate} | bulkhead apply /dev/stdin"));
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    assert_eq!(site.status()["agent"]["policy"], "/dev/stdin");
    site.done(&["rollback"]);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // A file system that is mounted for the caller alone, with more in it than a request usually has.
    let hidden = format!(
        "cp {candidate} /run/candidate-{0}; mount -t tmpfs none /mnt; cp /run/candidate-{0} /mnt/p; \
         rm /run/candidate-{0}; {{ echo; head -c 5000000 /dev/zero | tr '\\0' ' '; }} >> /mnt/p; cd /mnt;",
        site.instance()
    );
    done(&site, &format!("{hidden} bulkhead stage p"));
    assert_eq!(site.status()["agent"]["staged"]["policy"], "/mnt/p");
    done(&site, &format!("{hidden} bulkhead apply p --inventory {}", site.path("inventory.json")));
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    let mistake = shell(&site, &format!("{hidden} echo ']' > p; bulkhead apply p"));
    let said = String::from_utf8_lossy(&mistake.stderr).into_owned();
    assert!(mistake.status.code() == Some(1) && said.contains("/mnt/p:1:1"), "{said}");

    // A restart goes on with it, as it was kept; without a name, the agent reads its own file.
    site.kill();
    site.start();
    assert_eq!(site.status()["agent"]["policy"], "/mnt/p");
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    site.done(&["apply"]);
    assert_eq!(site.status()["agent"]["policy"], site.path("policy.hujson"));
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}

/// What a socket answers to a request.
fn ask(site: &Site, request: &str) -> String {
    let mut stream = UnixStream::connect(format!("/run/bulkhead/{}/agent.sock", site.instance())).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn another_version_is_said_plainly() {
    let mut site = Site::new("version", Over::Ethernet, &[WEB]);
    site.start();
    let version = ask(&site, "GET /v1/version");
    assert!(version.starts_with("HTTP/1.1 200") && version.contains(r#""api":1"#), "{version}");
    // The routes of an older command.
    for request in ["GET /status", "POST /apply", "GET /v2/status"] {
        let answer = ask(&site, request);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("the agent's version is"), "{answer}");
    }
    site.kill();

    // An older agent, which has no such route.
    let socket = format!("/run/bulkhead/{}/agent.sock", site.instance());
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            // A client that goes away early is as well answered.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    for command in [&["status"][..], &["apply"], &["watch"], &["quarantine", "client"]] {
        let output = site.bulkhead(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {said}");
        assert!(
            said.contains("is of another version than this command") && said.contains("restart it"),
            "{said}"
        );
    }
    std::fs::remove_file(&socket).unwrap();
}
