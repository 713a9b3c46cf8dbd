//! The same with software that banks run: nginx, PostgreSQL, OpenSSL, Go and rustls.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Process, slower};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream};

use super::{by_openssl, counts, without_probes};
use crate::probes::servers::{Certificates, POSTGRES, Servers};
use crate::site::account::number;
use crate::site::{Over, Site};

/// What a command may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long bytes are waited for that must not arrive.
const SILENCE: Duration = Duration::from_millis(1200);

/// Rules and their ports. Of two ports of nginx the first has TLS.
const ACLS: [(&str, &str, &str); 6] = [
    ("observed", "9443-9444", r#""tls": "observe""#),
    ("required", "9445-9446", r#""tls": "required""#),
    ("openssl", "9447", r#""tls": "required""#),
    ("rustls", "9448", r#""tls": "required""#),
    ("go", "9449", r#""tls": "required""#),
    ("postgres", "5432", r#""tls": "required", "starttls": "postgres""#),
];

/// A server and a client in Go.
const TALK: &str = include_str!("talk.go");
/// How long compiling them may take, Go's own library included.
const COMPILES: Duration = Duration::from_secs(180);

/// What an HTTP client says first.
const GET: &[u8] = b"GET /plain HTTP/1.1\r\nHost: oms.example\r\n\r\n";
/// PostgreSQL's StartupMessage (protocol 3.0) of the user `postgres`.
const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";

#[test]
fn real_servers_are_counted_by_how_they_begin_and_hear_no_plaintext_where_tls_is_required() {
    let acls = ACLS.map(|(name, ports, tls)| {
        format!(
            r#"{{"name": "{name}", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:{ports}"], "proto": "tcp", {tls}}}"#
        )
    });
    let mut site = Site::dual("tlsreal", Over::Ethernet, &acls.each_ref().map(String::as_str), &[]);
    Certificates::make(&site);
    let mut servers = Servers::start(&site, &[]);
    let more = ["9444 ipv6only=off", "9445 ssl ipv6only=off", "9446 ipv6only=off"];
    let more = more.map(|port| format!("listen [::]:{port};")).concat();
    let log = site.path("access.log");
    servers.nginx(&site, 9443, &format!("{more} location / {{ return 200 hello; }} access_log {log}"));
    let good = site.path("good.pem");
    servers.openssl(&site, 9447, &["-cert", &good, "-key", &good]);
    servers.postgres(&site);
    without_probes(&site);
    site.start();

    let talk = compiled(&site);
    let addresses = site.addresses("server");
    for address in &addresses {
        nginx(&site, *address);
        openssl(&site, *address);
        rustls(&site, *address);
        go(&site, &talk, *address);
        postgres(&site, *address);
    }
    // It serves one after the other, and would wait for this one.
    let at = SocketAddr::new(addresses[1], 9447);
    assert_eq!(says(&site, at, GET), (Vec::new(), false), "{at}");
    let each = addresses.len() as u64;
    let heard = std::fs::read_to_string(&log).unwrap();
    assert_eq!(heard.lines().count() as u64, 3 * each, "two by TLS and one observed: {heard}");
    is_counted(&site, "observed", [each, each]);
    is_counted(&site, "required", [each, each]);
    is_counted(&site, "openssl", [2 * each, 1]);
    is_counted(&site, "rustls", [2 * each, 0]);
    is_counted(&site, "go", [2 * each, 0]);
    is_counted(&site, "postgres", [2 * each, 2 * each]);

    postgres_without_tls(&site, addresses[0]);
    is_counted(&site, "postgres", [2 * each, 2 * each + 1]);
}

/// How many of a rule's flows began as TLS, and how many in plaintext.
#[track_caller]
fn is_counted(site: &Site, rule: &str, wanted: [u64; 2]) {
    let counts = counts(site, rule);
    let [began, plaintext, unverified] =
        ["began", "plaintext", "unverified"].map(|word| number(&counts[word]));
    assert_eq!(([began, plaintext], unverified), (wanted, 0), "{rule}: {counts}");
}

/// A command's output in a host's network.
fn run(site: &Site, host: &str, mut command: Command) -> Output {
    site.namespace(host).prepare(&mut command).unwrap();
    lab::run_within(&mut command, slower(LIMIT)).unwrap()
}

/// Says something in plaintext: what is answered, and whether the server's socket has received any byte.
fn says(site: &Site, at: SocketAddr, bytes: &[u8]) -> (Vec<u8>, bool) {
    let connect = || TcpStream::connect_timeout(&at, slower(LIMIT));
    let mut stream = site.namespace("client").run(connect).unwrap().unwrap();
    stream.write_all(bytes).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    answer.truncate(length);
    let from = stream.local_addr().unwrap().port().to_string();
    let mut sockets = Command::new("ss");
    sockets.args(["-tinH", "state", "established", "sport", "=", &format!(":{}", at.port())]);
    sockets.args(["and", "dport", "=", &format!(":{from}")]);
    let output = run(site, "server", sockets);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("rto:"), "the handshake passes, the connection is there: {output:?}");
    (answer, told.contains("bytes_received:"))
}

/// One port of nginx with TLS and one without, under both rules.
fn nginx(site: &Site, address: IpAddr) {
    let [observed, observed_plain, required, required_plain] =
        [9443, 9444, 9445, 9446].map(|port| SocketAddr::new(address, port));
    for at in [observed, required] {
        let mut client = Command::new("python3");
        let script = format!(
            "import http.client, ssl\nc = http.client.HTTPSConnection('{address}', {}, timeout=10, \
             context=ssl._create_unverified_context())\nc.request('GET', '/tls')\nr = c.getresponse()\n\
             print(r.version, r.status, r.read().decode())",
            at.port()
        );
        client.args(["-c", &script]);
        let output = run(site, "client", client);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "11 200 hello\n", "{at}: {output:?}");
    }
    let (answer, has_received) = says(site, observed_plain, GET);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && has_received, "{}", String::from_utf8_lossy(&answer));
    assert_eq!(says(site, required_plain, GET), (Vec::new(), false), "{required_plain}");
}

/// `s_client` to `s_server`.
fn openssl(site: &Site, address: IpAddr) {
    let at = SocketAddr::new(address, 9447);
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(by_openssl(site, "client", at, version), "{at} {version}");
    }
}

/// rustls at both ends.
fn rustls(site: &Site, address: IpAddr) {
    let file = site.path("good.pem");
    let chain: Vec<_> = CertificateDer::pem_file_iter(&file).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&file).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let served = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let served = Arc::new(served.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.path("authority.pem")).unwrap()).unwrap();
    let at = SocketAddr::new(address, 9448);
    let listener = site.namespace("server").run(|| TcpListener::bind(at)).unwrap().unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let asked = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]);
        let asked = asked.unwrap().with_root_certificates(roots.clone()).with_no_client_auth();
        let connect = || TcpStream::connect_timeout(&at, slower(LIMIT));
        let mut client = site.namespace("client").run(connect).unwrap().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(slower(LIMIT))).unwrap();
        }
        let served = served.clone();
        let answers = std::thread::spawn(move || {
            let mut connection = ServerConnection::new(served).unwrap();
            let mut stream = Stream::new(&mut connection, &mut server);
            let mut question = [0; 5];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&question).unwrap();
            stream.flush().unwrap();
        });
        let name = "oms.example".try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::new(asked), name).unwrap();
        let mut stream = Stream::new(&mut connection, &mut client);
        stream.write_all(b"order").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"order", "{at} {version:?}");
        answers.join().unwrap();
    }
}

/// The program of [`TALK`].
fn compiled(site: &Site) -> String {
    let (source, program) = (site.path("talk.go"), site.path("talk"));
    site.write("talk.go", TALK);
    let mut compiler = Command::new("go");
    compiler.args(["build", "-o", &program, &source]);
    // Nothing is asked of the network, and nothing is left behind.
    compiler.env("GO111MODULE", "off").env("GOCACHE", site.path("go-cache"));
    let output = lab::run_within(&mut compiler, slower(COMPILES)).unwrap();
    assert!(output.status.success(), "{output:?}");
    program
}

/// Go at both ends.
fn go(site: &Site, program: &str, address: IpAddr) {
    let at = SocketAddr::new(address, 9449).to_string();
    let mut server = Command::new(program);
    server.args(["serve", &at, &site.path("good.pem")]);
    let log = site.path("talk.log");
    let server = Process::spawn(site.namespace("server"), &mut server, log.as_ref()).unwrap();
    let deadline = Instant::now() + slower(LIMIT);
    while !server.log().contains("ready") {
        assert!(Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    for version in ["1.2", "1.3"] {
        let mut client = Command::new(program);
        client.args(["ask", &at, &site.path("authority.pem"), version]);
        let output = run(site, "client", client);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "order\n", "{at} {version}: {output:?}");
    }
}

/// `psql`: what it prints of a query, or its error.
fn psql(site: &Site, host: &str, address: IpAddr, mode: &str, query: &str) -> Result<String, String> {
    let mut client = Command::new(format!("{POSTGRES}/psql"));
    let to = format!(
        "host={address} user=postgres dbname=postgres sslmode={mode} gssencmode=disable connect_timeout=2"
    );
    client.args(["-X", "-A", "-t", &to, "-c", query]);
    let output = run(site, host, client);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// With TLS it works, whether the client must have it or would rather; without, nothing arrives.
fn postgres(site: &Site, address: IpAddr) {
    let is_secure = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    for mode in ["require", "prefer"] {
        assert_eq!(psql(site, "client", address, mode, is_secure).as_deref(), Ok("t"), "{address} {mode}");
    }
    let said = psql(site, "client", address, "disable", is_secure).unwrap_err();
    assert!(said.contains("timeout expired"), "{said}");
    assert_eq!(says(site, SocketAddr::new(address, 5432), STARTUP), (Vec::new(), false), "{address}");
}

/// A server that answers `N` to SSLRequest: its client is told nothing.
fn postgres_without_tls(site: &Site, address: IpAddr) {
    let here = |query: &str| psql(site, "server", [127, 0, 0, 1].into(), "disable", query).unwrap();
    here("alter system set ssl = off");
    here("select pg_reload_conf()");
    let deadline = Instant::now() + slower(LIMIT);
    while here("show ssl") != "off" {
        assert!(Instant::now() < deadline, "ssl stays on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = psql(site, "client", address, "require", "select 1").unwrap_err();
    assert!(said.contains("timeout expired"), "{said}");
}
