//! The committed corpora, and inputs too large or too deep to commit.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::{Duration, Instant};

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 3, "{count} inputs for {target}");
}

#[test]
fn packets() {
    replay("parser", bulkhead_fuzz::parser::run);
}

#[test]
fn policies() {
    replay("policy", bulkhead_fuzz::policy::run);
}

#[test]
fn inventories() {
    replay("inventory", bulkhead_fuzz::inventory::run);
}

/// Neither overflows the stack nor takes long, however deep.
#[test]
fn deep_nesting_is_refused() {
    const DEEP: usize = 1_000_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        for start in ["", "{\"acls\":", "{\"ssh\":", "{\"nodes\":", "{\"nodes\":[{\"posture\":"] {
            let nested = format!("{start}{}0{}", open.repeat(DEEP), close.repeat(DEEP));
            let started = Instant::now();
            bulkhead_fuzz::policy::run(nested.as_bytes());
            bulkhead_fuzz::inventory::run(nested.as_bytes());
            assert!(started.elapsed() < Duration::from_secs(10), "{start}{open}: {:?}", started.elapsed());
        }
    }
}

/// A file of one error a byte, or of one name, ends in time.
#[test]
fn large_files_of_nothing_but_errors_end_in_time() {
    const LARGE: usize = 1 << 18;
    let repeated =
        |start: &str, item: &str, end: &str| format!("{start}{}{end}", item.repeat(LARGE / item.len()));
    let chain = |section: &str, prefix: &str| {
        let links = (0..8000).map(|i| format!("\"{prefix}s{i}\":[\"{prefix}s{}\"],", i + 1));
        format!("{{\"acls\":[],\"{section}\":{{{}}}}}", links.collect::<String>())
    };
    let different = |start: &str| {
        let sections = (0..20_000).map(|i| format!("\"x{i}\":0,"));
        format!("{start}{}}}", sections.collect::<String>())
    };
    for text in [
        chain("ipsets", "ipset:"),
        chain("tagOwners", "tag:"),
        repeated("{\"acls\":[],\"venues\":{\"venue:a\":{\"addresses\":[", "\"10.0.0.0/8\",", "]}}}"),
        repeated("{\"acls\":[", "{},", "]}"),
        repeated("{\"acls\":[", "0,", "]}"),
        repeated("{", "\"x\":0,", "}"),
        different("{\"acls\":[],"),
        different("{\"groups\":[],"),
        repeated("{\"groups\":{", "\"group:a\":[\"group:a\"],", "}}"),
        repeated("{\"hosts\":{", "\"a\":\"1.2.3.4\",", "}}"),
        repeated("{\"nodes\":[", "{},", "]}"),
        repeated("{\"nodes\":[", "{\"name\":\"a\",\"addresses\":[\"1.2.3.4\"]},", "]}"),
        repeated("{\"nodes\":[{\"name\":\"a\",\"addresses\":[", "\"1.2.3.4\",", "]}]}"),
        repeated("", "/* */", ""),
        repeated("\"", "\\u0000", "\""),
    ] {
        let started = Instant::now();
        bulkhead_fuzz::policy::run(text.as_bytes());
        bulkhead_fuzz::inventory::run(text.as_bytes());
        let start: String = text.chars().take(60).collect();
        println!("{:?} {start}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(30), "{start}: {:?}", started.elapsed());
    }
}
