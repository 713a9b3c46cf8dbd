//! The SSH session that a command is run from: whoever changes what passes must not cut it.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use bulkhead_api::session::Session;

/// What sshd tells its sessions: the client's address and port, then the server's (ssh(1)).
const VARIABLE: &str = "SSH_CONNECTION";

/// Processes that are looked at, from this one to the first.
const DEPTH: usize = 64;

/// The SSH session that this process belongs to; none if it was started otherwise.
///
/// sudo and su keep a session's variables from what they start, so the processes above this one are asked, too.
/// A terminal multiplexer remembers the session that started it: one that is open goes before one that is not.
#[must_use]
pub fn at_hand() -> Option<Session> {
    let own = std::env::var(VARIABLE).ok().and_then(|value| parse(&value));
    let found: Vec<Session> = own.into_iter().chain(above(std::process::id())).collect();
    choose(&found, &open())
}

/// The sessions that a process and those above it were started in, the nearest first.
fn above(process: u32) -> Vec<Session> {
    let mut next = Some(process);
    let mut found = Vec::new();
    for _ in 0..DEPTH {
        let Some(process) = next else { break };
        // One that may not be read is passed over.
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        found.extend(of_environment(&environment));
        next = fs::read_to_string(format!("/proc/{process}/stat")).ok().and_then(|stat| parent(&stat));
    }
    found
}

/// From where the sessions of all processes were begun, as far as these may be read: by their own words.
pub fn operators() -> HashSet<IpAddr> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments
        .filter_map(|environment| of_environment(&environment))
        .map(|session| session.client.ip())
        .collect()
}

/// The host's open TCP connections; none if the kernel does not tell.
fn open() -> HashSet<Session> {
    let connections = bulkhead_dataplane::connections().unwrap_or_default();
    connections.into_iter().map(|open| Session { client: open.remote, server: open.local }).collect()
}

/// The nearest session that is open, else the nearest.
fn choose(found: &[Session], open: &HashSet<Session>) -> Option<Session> {
    found.iter().find(|session| open.contains(session)).or(found.first()).copied()
}

/// The session of an environment: variables that end in a zero byte each.
fn of_environment(environment: &[u8]) -> Option<Session> {
    let mut variables = environment.split(|byte| *byte == 0).filter_map(|each| str::from_utf8(each).ok());
    parse(variables.find_map(|each| each.strip_prefix(VARIABLE)?.strip_prefix('='))?)
}

/// `CLIENT PORT SERVER PORT`.
fn parse(value: &str) -> Option<Session> {
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let [client, client_port, server, server_port] = fields[..] else { return None };
    Some(Session { client: end(client, client_port)?, server: end(server, server_port)? })
}

/// One end; a link-local address names its interface: `fe80::1%eth0`.
fn end(address: &str, port: &str) -> Option<SocketAddr> {
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    let address: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?))
}

/// The process above one, by its /proc/PID/stat; its name may have blanks and brackets in it. Above the first
/// there is none.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok().filter(|parent| *parent != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::{Session, above, choose, of_environment, open, parent, parse};

    fn session(client: &str, server: &str) -> Session {
        Session { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn both_ends_are_read_as_policies_write_them() {
        for (value, client, server) in [
            ("203.0.113.9 50122 10.0.0.1 22", "203.0.113.9:50122", "10.0.0.1:22"),
            ("::ffff:203.0.113.9 50122 ::ffff:10.0.0.1 2222", "203.0.113.9:50122", "10.0.0.1:2222"),
            ("2001:db8::9 1 fd7a::1 22", "[2001:db8::9]:1", "[fd7a::1]:22"),
            ("fe80::9%eth0 50122 fe80::1%eth0.5 22", "[fe80::9]:50122", "[fe80::1]:22"),
        ] {
            assert_eq!(parse(value), Some(session(client, server)), "{value}");
        }
        for bad in ["", "203.0.113.9 50122 10.0.0.1", "host 1 10.0.0.1 22", "10.0.0.1 65536 10.0.0.2 22"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("10.0.0.1 1 10.0.0.2 22 more"), None);
    }

    #[test]
    fn a_variable_is_found_among_others_by_its_whole_name() {
        let found =
            of_environment(b"A=1\0B=\xff\0XSSH_CONNECTION=x\0SSH_CONNECTION=10.0.0.1 1 10.0.0.2 22\0");
        assert_eq!(found, Some(session("10.0.0.1:1", "10.0.0.2:22")));
        assert_eq!(of_environment(b"XSSH_CONNECTION=10.0.0.1 1 10.0.0.2 22\0"), None);
        assert_eq!(of_environment(b"SSH_CONNECTIONS=10.0.0.1 1 10.0.0.2 22\0"), None);
        assert_eq!(of_environment(b""), None);
    }

    #[test]
    fn the_one_above_is_read_whatever_a_process_is_called() {
        assert_eq!(parent("42 (sshd) S 7 42 42 0"), Some(7));
        assert_eq!(parent("42 (a) b (c)) R 8 1 1"), Some(8));
        assert_eq!(parent("1 (systemd) S 0 1 1 0"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn an_open_session_goes_before_one_that_is_remembered() {
        let (old, new) = (session("10.0.0.1:1", "10.0.0.2:22"), session("10.0.0.1:2", "10.0.0.2:22"));
        assert_eq!(choose(&[old, new], &HashSet::from([new])), Some(new));
        assert_eq!(choose(&[old, new], &HashSet::new()), Some(old), "the nearest");
        assert_eq!(choose(&[], &HashSet::from([new])), None);
    }

    #[test]
    fn a_process_that_clears_its_variables_hides_no_session() {
        let value = "203.0.113.9 50122 192.0.2.1 22";
        // As sudo does: what runs in the end has no variables, and what is above it does.
        let script = "env -i sleep 60 & echo $!; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .env("SSH_CONNECTION", value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let below: u32 = line.trim().parse().unwrap();
        // Until it is another program, it has the variables of the one above.
        let cleared = || std::fs::read(format!("/proc/{below}/environ")).unwrap().is_empty();
        for _ in 0..500 {
            if cleared() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let (is_cleared, found) = (cleared(), above(below));
        Command::new("kill").arg(below.to_string()).status().unwrap();
        shell.wait().unwrap();
        assert!(is_cleared);
        assert_eq!(found.first(), parse(value).as_ref());
    }

    #[test]
    fn an_open_connection_is_known_by_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = client.local_addr().unwrap();
        assert!(open().contains(&Session { client: here, server: listener.local_addr().unwrap() }));
    }
}
