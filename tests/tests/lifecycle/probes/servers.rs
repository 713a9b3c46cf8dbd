//! Servers, and the certificates that they present.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Process, slower};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::Value;
use time::OffsetDateTime;

use crate::site::Site;

/// What a server may take until it listens.
const STARTS: Duration = Duration::from_secs(20);

/// PostgreSQL's programs.
pub const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// `good.pem`, `expired.pem` and `early.pem`, each with its key, and `authority.pem`.
pub struct Certificates {
    /// Until when the good one is valid, as JSON has it.
    pub good_until: Value,
}

impl Certificates {
    /// Makes them in the site's directory.
    pub fn make(site: &Site) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        site.write("authority.pem", &authority.pem());
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let days = time::Duration::days;
        for (name, from, until) in [("good", -1, 30), ("expired", -9, -1), ("early", 1, 9)] {
            let mut params = CertificateParams::new(["oms.example".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (now + days(from), now + days(until));
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names.push(SanType::URI("spiffe://bank.example/oms".try_into().unwrap()));
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            site.write(&format!("{name}.pem"), &(certificate.pem() + &key.serialize_pem()));
        }
        let until = (now + days(30)).format(&time::format_description::well_known::Rfc3339).unwrap();
        Self { good_until: until.replace('Z', ".000000000Z").into() }
    }
}

/// Servers on the server's host; they end with it.
pub struct Servers {
    python: Child,
    log: std::path::PathBuf,
    others: Vec<Process>,
}

impl Servers {
    /// Those of `servers.py`.
    pub fn start(site: &Site, lines: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lifecycle/probes/servers.py");
        let log = Path::new(&site.path("servers.log")).to_owned();
        let mut command = Command::new("python3");
        command.arg(script).arg(site.lab.directory());
        command.stdout(std::fs::File::create(&log).unwrap());
        site.namespace("server").prepare(&mut command).unwrap();
        command.stdin(Stdio::piped());
        let mut python = command.spawn().unwrap();
        let input = python.stdin.as_mut().unwrap();
        lines.iter().for_each(|line| writeln!(input, "{line}").unwrap());
        drop(python.stdin.take());
        let servers = Self { python, log, others: Vec::new() };
        let deadline = Instant::now() + slower(STARTS);
        while servers.said("ready ") < lines.len() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(&servers.log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        servers
    }

    fn said(&self, beginning: &str) -> usize {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter(|line| line.starts_with(beginning)).count()
    }

    /// Connections to a port of these so far.
    pub fn accepted(&self, port: u16) -> usize {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter(|line| *line == format!("accepted {port}")).count()
    }

    fn add(&mut self, site: &Site, mut command: Command, name: &str, port: u16) {
        let log = site.lab.directory().join(format!("{name}-{port}.log"));
        command.stdin(Stdio::null());
        let mut process = Process::spawn(site.namespace("server"), &mut command, &log).unwrap();
        let deadline = Instant::now() + slower(STARTS);
        let address = (site.address("server"), port);
        while site.namespace("server").run(|| TcpStream::connect(address)).unwrap().is_err() {
            assert!(Instant::now() < deadline && process.ended().unwrap().is_none(), "{}", process.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.others.push(process);
    }

    /// `openssl s_server`.
    pub fn openssl(&mut self, site: &Site, port: u16, words: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", &port.to_string(), "-www"]);
        command.args(words.iter().filter(|word| **word != "-quiet"));
        self.add(site, command, "openssl", port);
    }

    /// nginx, with one more directive.
    pub fn nginx(&mut self, site: &Site, port: u16, directive: &str) {
        let directory = site.lab.directory().display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {directory}/{kind}-{port};"))
            .concat();
        let config = format!(
            "daemon off; user root; pid {directory}/nginx-{port}.pid; error_log stderr; events {{}} http {{ access_log off; {temporary} \
             server {{ listen [::]:{port} ssl ipv6only=off; ssl_protocols TLSv1.3; ssl_certificate {directory}/good.pem; \
             ssl_certificate_key {directory}/good.pem; ssl_client_certificate {directory}/authority.pem; {directive}; }} }}"
        );
        let name = format!("nginx-{port}.conf");
        site.write(&name, &config);
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-c", &site.path(&name), "-p", &directory]);
        self.add(site, command, "nginx", port);
    }

    /// PostgreSQL, with TLS, on its usual port, for whoever comes.
    pub fn postgres(&mut self, site: &Site) {
        // It does not run as root, and reads a key that is its own alone.
        let directory = tempfile_for("postgres");
        let data = directory.join("data");
        let as_postgres = |program: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(format!("{POSTGRES}/{program}")).current_dir(&directory);
            command
        };
        let owned = |path: &Path| {
            let done = Command::new("chown").arg("postgres:postgres").arg(path).status().unwrap();
            assert!(done.success());
        };
        owned(&directory);
        let mut make = as_postgres("initdb");
        make.args(["-A", "trust", "-N", "-D"]).arg(&data);
        let output = lab::run_within(&mut make, slower(Duration::from_secs(60))).unwrap();
        assert!(output.status.success(), "{output:?}");
        let key = directory.join("server.pem");
        std::fs::copy(site.path("good.pem"), &key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        owned(&key);
        let key = key.display();
        let settings = format!("ssl = on\nssl_cert_file = '{key}'\nssl_key_file = '{key}'\n");
        for (name, lines) in [("postgresql.conf", &*settings), ("pg_hba.conf", "host all all all trust\n")] {
            let mut file = std::fs::File::options().append(true).open(data.join(name)).unwrap();
            file.write_all(lines.as_bytes()).unwrap();
        }
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(&data).args(["-k", "", "-h", "*", "-p", "5432"]);
        self.add(site, command, "postgres", 5432);
    }
}

/// A directory that others may enter, as those of a site are root's.
fn tempfile_for(name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("bulkhead-test-{}-{name}", std::process::id()));
    // One of an earlier process of this number.
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
        self.others.clear();
        let _ = std::fs::remove_dir_all(
            std::env::temp_dir().join(format!("bulkhead-test-{}-postgres", std::process::id())),
        );
    }
}
