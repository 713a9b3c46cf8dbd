//! `[fleet]`: whose policy and inventory this host follows, and where they come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_http::Tls;
use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::file::{at, bounded};
use super::receivers::{self, Files, is_plain};
use crate::exit::Usage;

/// Whose policy and inventory are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The first root of the repository of policies, as whoever installed the host brought it.
    pub policy_root: PathBuf,
    /// The same of inventories.
    pub inventory_root: PathBuf,
    /// Where files come from.
    pub from: From,
    /// Between two looks, unless there is news before.
    pub every: Duration,
    /// Seconds within which the host's own check must find a new bundle good.
    pub confirm_seconds: u64,
    /// The host's own check: a program and its arguments; empty: none but that files still come.
    pub health: Vec<String>,
}

/// Where files of a fleet come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A directory.
    Directory(PathBuf),
    /// A web server.
    Https {
        /// What stands before each file's path.
        url: String,
        /// Whom to trust, and as whom to come.
        tls: Tls,
    },
    /// NATS servers.
    Servers {
        /// Their URLs.
        servers: Vec<String>,
        /// The file of this host's credentials.
        credentials: PathBuf,
        /// Certificates of authorities to trust; none: the system's.
        ca: Option<PathBuf>,
    },
}

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    policy_root: PathBuf,
    inventory_root: PathBuf,
    directory: Option<Spanned<PathBuf>>,
    url: Option<Spanned<String>>,
    servers: Option<Spanned<Vec<Spanned<String>>>>,
    credentials: Option<Spanned<PathBuf>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    every_seconds: Option<Spanned<i64>>,
    confirm_seconds: Option<Spanned<i64>>,
    health: Option<Spanned<Vec<String>>>,
}

/// Checks the section. Relative paths start at `directory`.
pub(super) fn read(source: &Source, directory: &Path, section: Spanned<Section>) -> Result<Fleet, Usage> {
    let start = section.span().start;
    let section = section.into_inner();
    let from = from(source, directory, start, &section)?;
    let number = |key: &str, given: &Option<Spanned<i64>>, bounds| {
        given.as_ref().map_or(Ok(30), |value| bounded(source, key, value, bounds))
    };
    let health = section.health.as_ref();
    // It runs as the agent does: no search decides which program that is.
    if let Some(command) =
        health.filter(|health| !health.get_ref().first().is_some_and(|program| program.starts_with('/')))
    {
        let words =
            "health: name the program by its whole path, then its arguments: [\"/usr/bin/check\", \"-q\"]";
        return Err(at(source, command.span().start, words));
    }
    Ok(Fleet {
        policy_root: directory.join(&section.policy_root),
        inventory_root: directory.join(&section.inventory_root),
        every: Duration::from_secs(number("every_seconds", &section.every_seconds, 1..=3600)?.into()),
        confirm_seconds: number("confirm_seconds", &section.confirm_seconds, 1..=3600)?.into(),
        health: health.map(|health| health.get_ref().clone()).unwrap_or_default(),
        from,
    })
}

fn from(source: &Source, directory: &Path, start: usize, section: &Section) -> Result<From, Usage> {
    let Section { credentials, ca, certificate, key, .. } = section;
    let of_others = |known: &[&str], whose: &str| {
        let given: [(&str, &dyn receivers::Given); 4] =
            [("credentials", credentials), ("ca", ca), ("certificate", certificate), ("key", key)];
        receivers::check_keys(source, &given, known, whose)
    };
    match (&section.directory, &section.url, &section.servers) {
        (Some(path), None, None) => {
            of_others(&[], "a fleet by `directory`")?;
            Ok(From::Directory(directory.join(path.get_ref())))
        }
        (None, Some(url), None) => {
            of_others(&["ca", "certificate", "key"], "a fleet by `url`")?;
            receivers::check_url(source, url, "the fleet's files, such as https://fleet.example.com/files")?;
            if url.get_ref().contains(['?', '#']) {
                let words = "url: has neither `?` nor `#`: paths of files come behind it";
                return Err(at(source, url.span().start, words));
            }
            let tls = Files { ca, certificate, key }.tls(source, directory, is_plain(url))?;
            Ok(From::Https { url: url.get_ref().trim_end_matches('/').to_owned(), tls })
        }
        (None, None, Some(servers)) => {
            of_others(&["credentials", "ca"], "a fleet by `servers`")?;
            if servers.get_ref().is_empty() {
                return Err(at(source, servers.span().start, "servers: name one at least"));
            }
            let unfit = |url: &&Spanned<String>| !url.get_ref().starts_with("tls://");
            if let Some(url) = servers.get_ref().iter().find(unfit) {
                let words = "servers: each is one such as tls://nats-1.example.com:4222";
                return Err(at(source, url.span().start, words));
            }
            let credentials = credentials.as_ref().ok_or_else(|| {
                at(source, servers.span().start, "servers: the file of this host's `credentials` is missing")
            })?;
            Ok(From::Servers {
                servers: servers.get_ref().iter().map(|url| url.get_ref().clone()).collect(),
                credentials: directory.join(credentials.get_ref()),
                ca: ca.as_ref().map(|ca| directory.join(ca.get_ref())),
            })
        }
        (None, None, None) => {
            Err(at(source, start, "fleet: say where files come from, by `directory`, `url` or `servers`"))
        }
        _ => Err(at(
            source,
            start,
            "fleet: files come from one place: `directory`, `url` or `servers`, not more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const ROOTS: &str = "[fleet]\npolicy_root = \"p.json\"\ninventory_root = \"/i.json\"\n";

    fn parse(rest: &str) -> Result<Fleet, String> {
        let config = Config::parse(Path::new("/etc/bulkhead/agent.toml"), &format!("{ROOTS}{rest}"));
        config.map(|config| config.fleet.unwrap()).map_err(|error| error.0)
    }

    #[test]
    fn a_fleet_has_one_place_and_what_is_usual() {
        let fleet = parse("directory = \"served\"\n").unwrap();
        assert_eq!(fleet.from, From::Directory("/etc/bulkhead/served".into()));
        assert_eq!(
            (fleet.policy_root.to_str(), fleet.inventory_root.to_str()),
            (Some("/etc/bulkhead/p.json"), Some("/i.json"))
        );
        assert_eq!((fleet.every.as_secs(), fleet.confirm_seconds, fleet.health.len()), (30, 30, 0));
        let From::Https { url, tls } = parse("url = \"https://x/files/\"\nca = \"ca.pem\"\n").unwrap().from
        else {
            panic!("a URL")
        };
        assert_eq!((&*url, tls.ca.unwrap().to_str()), ("https://x/files", Some("/etc/bulkhead/ca.pem")));
        let servers = parse("servers = [\"tls://n:4222\"]\ncredentials = \"f.creds\"\n").unwrap().from;
        let credentials = "/etc/bulkhead/f.creds".into();
        assert_eq!(
            servers,
            From::Servers { servers: vec!["tls://n:4222".to_owned()], credentials, ca: None }
        );
        assert_eq!(Config::parse(Path::new("/a.toml"), "").unwrap().fleet, None);
    }

    #[test]
    fn what_a_fleet_cannot_have_is_told_with_its_place() {
        for (rest, place, words) in [
            ("", "1:1", "say where files come from"),
            ("directory = \"d\"\nurl = \"https://x\"", "1:1", "from one place"),
            ("directory = \"d\"\nca = \"c\"", "5:6", "not of a fleet by `directory`"),
            ("url = \"x\"", "4:7", "not the whole URL"),
            ("url = \"https://x?k\"", "4:7", "neither `?` nor `#`"),
            ("url = \"https://x\"\ncredentials = \"c\"", "5:15", "not of a fleet by `url`"),
            ("servers = []", "4:11", "name one at least"),
            ("servers = [\"nats://x\"]\ncredentials = \"c\"", "4:12", "such as tls://"),
            ("servers = [\"tls://x\"]", "4:11", "`credentials` is missing"),
            ("directory = \"d\"\nhealth = [\"check\"]", "5:10", "by its whole path"),
            ("directory = \"d\"\nconfirm_seconds = 0", "5:19", "not between 1 and 3600"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(
                error.contains(&format!("agent.toml:{place}: ")) && error.contains(words),
                "{rest}: {error}"
            );
        }
        let watched = format!("watch = true\n{ROOTS}directory = \"d\"\n");
        let error = Config::parse(Path::new("/a.toml"), &watched).unwrap_err().0;
        assert!(error.contains("2:1") && error.contains("remove `watch`"), "{error}");
    }
}
