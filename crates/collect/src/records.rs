//! Records as JSON lines, a file for each day.
//!
//! A line names its record's index, and lines follow the mirror without a gap: where a killed collector stopped is read
//! off the last whole line. So each record has one line, whenever it was killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_tlog::Reader;
use serde::{Deserialize, Serialize};

/// Bytes of the longest line: a record may grow twofold where it is no JSON, and its node's name stands before it.
const MOST_LINE: u64 = 512 << 10;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// The file that says how far lines are, where files of lines were removed.
const POSITION: &str = "position";

const EXTENSION: &str = "jsonl";

/// The lines of one node.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
    node: String,
    /// The index of the next record.
    next: u64,
    /// The newest file's day.
    day: String,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    index: u64,
}

/// What is read of a record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Timed<'a> {
    #[serde(borrow)]
    event: Option<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    time: Option<std::borrow::Cow<'a, str>>,
}

impl Records {
    /// Goes on with the lines in a directory. What a killed collector wrote of a line is removed.
    pub(crate) fn open(directory: &Path, node: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let position = match fs::read_to_string(directory.join(POSITION)) {
            // What a loss of power left of it says nothing: the newest line does.
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let days = days(directory)?;
        let mut records = Self {
            directory: directory.to_owned(),
            node: node.to_owned(),
            next: position,
            day: days.last().cloned().unwrap_or_default(),
        };
        // The newest may have been begun and have no whole line yet.
        for day in days.iter().rev() {
            if let Some(index) = last_line(&records.path(day))? {
                records.next = records.next.max(index + 1);
                break;
            }
        }
        Ok(records)
    }

    fn path(&self, day: &str) -> PathBuf {
        self.directory.join(day).with_extension(EXTENSION)
    }

    /// Writes the lines of all records that a mirror has and that have none, and returns when they are durable.
    /// Those before `first` the log had pruned when the collector first saw it. `today` is the collector's,
    /// `YYYY-MM-DD`: no record is of a later day.
    pub(crate) fn follow(&mut self, reader: &Reader, first: u64, today: &str) -> io::Result<u64> {
        let size = reader.checkpoint().size;
        let from = self.next.max(first);
        let (mut file, mut buffer, mut written) = (None::<File>, Vec::new(), 0);
        let mut next = self.next;
        for read in reader.entries(from..size) {
            let (index, entry) = read.map_err(io::Error::other)?;
            let day = day_of(&entry, today).max(self.day.clone());
            if file.is_none() || day != self.day || buffer.len() >= BUFFER {
                flush(file.as_mut(), &mut buffer, day != self.day)?;
                if file.is_none() || day != self.day {
                    file = Some(self.open_day(&day)?);
                }
            }
            line(&mut buffer, &self.node, index, &entry)?;
            (next, written) = (index + 1, written + 1);
        }
        flush(file.as_mut(), &mut buffer, true)?;
        if next != self.next {
            self.next = next;
            // It matters only where files were removed, and may lag behind the newest of them.
            let new = self.directory.join(POSITION).with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(format!("{next}\n").as_bytes())?;
            file.sync_data()?;
            fs::rename(new, self.directory.join(POSITION))?;
        }
        Ok(written)
    }

    fn open_day(&mut self, day: &str) -> io::Result<File> {
        let path = self.path(day);
        let is_new = !path.exists();
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        if is_new {
            File::open(&self.directory)?.sync_all()?;
        }
        day.clone_into(&mut self.day);
        Ok(file)
    }
}

fn flush(file: Option<&mut File>, buffer: &mut Vec<u8>, durable: bool) -> io::Result<()> {
    if let Some(file) = file {
        file.write_all(buffer)?;
        if durable {
            file.sync_data()?;
        }
    }
    buffer.clear();
    Ok(())
}

/// Days that there are files of, the oldest first.
fn days(directory: &Path) -> io::Result<Vec<String>> {
    let mut days = Vec::new();
    for found in fs::read_dir(directory)? {
        let path = found?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|_| path.extension().is_some_and(|is| is == EXTENSION)) {
            days.push(name.to_owned());
        }
    }
    days.sort();
    Ok(days)
}

/// The index on the last whole line of a file; what follows it is cut off.
fn last_line(path: &Path) -> io::Result<Option<u64>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut length = file.metadata()?.len();
    loop {
        let start = length.saturating_sub(MOST_LINE);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        (&mut file).take(length - start).read_to_end(&mut tail)?;
        let Some(end) = tail.iter().rposition(|&byte| byte == b'\n') else {
            // No line is longer: nothing here is one.
            file.set_len(start)?;
            if start == 0 {
                return Ok(None);
            }
            length = start;
            continue;
        };
        let begin = tail[..end].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if let Ok(Line { index }) = serde_json::from_slice(&tail[begin..end]) {
            file.set_len(start + end as u64 + 1)?;
            return Ok(Some(index));
        }
        // A loss of power may leave blocks without what was in them.
        length = start + begin as u64;
        file.set_len(length)?;
        if length == 0 {
            return Ok(None);
        }
    }
}

/// The day of a record, but none after today.
fn day_of(entry: &[u8], today: &str) -> String {
    let timed: Timed<'_> = serde_json::from_slice(entry).unwrap_or_default();
    let time = timed.event.and_then(|event| event.time).unwrap_or_default();
    let is_day = |day: &&str| {
        day.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
    };
    time.get(..10).filter(is_day).filter(|day| *day <= today).unwrap_or(today).to_owned()
}

/// A line of what is no JSON.
#[derive(Serialize)]
struct Other<'a> {
    node: &'a str,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Adds the line of a record: `{"node":…,"index":…,"record":…}`. What is no JSON on one line becomes a `text`, and what
/// is no text `base64`: a control character would become six.
fn line(buffer: &mut Vec<u8>, node: &str, index: u64, entry: &[u8]) -> io::Result<()> {
    let json = str::from_utf8(entry).ok().filter(|text| !text.contains(['\n', '\r']));
    match json.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()) {
        Some(json) => {
            write!(buffer, "{{\"node\":{},\"index\":{index},\"record\":", serde_json::to_string(node)?)?;
            buffer.extend_from_slice(json.as_bytes());
            buffer.push(b'}');
        }
        None => {
            let is_plain = |text: &&str| !text.contains(|is: char| is.is_control() && is != '\n');
            let text = str::from_utf8(entry).ok().filter(is_plain);
            let base64 = text.is_none().then(|| STANDARD.encode(entry));
            serde_json::to_writer(&mut *buffer, &Other { node, index, text, base64 })?;
        }
    }
    buffer.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::{STANDARD, day_of, line};

    #[test]
    fn a_record_is_of_its_day_and_none_of_tomorrow() {
        let day = |time: &str| day_of(format!(r#"{{"event":{{"time":"{time}"}}}}"#).as_bytes(), "2026-11-30");
        assert_eq!(day("2026-11-29T23:59:59Z"), "2026-11-29");
        for other in ["9999-01-01T00:00:00Z", "../../../etc", "2026/11/29", "", "20\u{e9}6-11-29T"] {
            assert_eq!(day(other), "2026-11-30", "{other}");
        }
        assert_eq!(day_of(b"rotation x\n", "2026-11-30"), "2026-11-30");
    }

    #[test]
    fn whatever_a_host_writes_is_one_line_of_json() {
        for entry in [
            &b"{\"a\":1}"[..],
            b"{\"a\":\n1}",
            b"rotation a\nb\n",
            b"\xff\xfe",
            b"",
            b"1}{\"index\":7",
            b"\"\x00\"",
            &[0; 65_000],
            "\u{85}".repeat(30_000).as_bytes(),
        ] {
            let mut buffer = Vec::new();
            line(&mut buffer, "a\"b", 3, entry).unwrap();
            assert_eq!(buffer.iter().filter(|&&byte| byte == b'\n').count(), 1);
            let value: serde_json::Value = serde_json::from_slice(&buffer).unwrap();
            assert_eq!((value["node"].as_str(), value["index"].as_u64()), (Some("a\"b"), Some(3)));
            let text = value["text"].as_str().map(|text| text.as_bytes().to_vec());
            let other = || STANDARD.decode(value["base64"].as_str().unwrap()).unwrap();
            assert!(value["record"]["a"] == 1 || text.unwrap_or_else(other) == entry, "{value}");
            assert!(buffer.len() < 2 * entry.len() + 100, "{}", buffer.len());
        }
    }
}
