//! One host of the demo has a service that speaks TLS and an exporter that does not, and says which is which.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_testkit::lab::{Host, Lab, Process, run_within, slower};

use super::agents::Agents;
use super::say;

/// Where they are.
pub const HOST: &str = "oms-1";
const SECURE: u16 = 8443;
const EXPORTER: u16 = 9101;

/// What each step may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What the certificate presents.
const SPIFFE: &str = "spiffe://trading-firm.example/order-management";

/// Both of them. The exporter ends with the process.
pub struct Services(#[expect(dead_code, reason = "it runs while this lives")] Process);

impl Services {
    /// Starts them.
    pub fn start(lab: &Lab) -> Result<Services> {
        let host = lab.host(HOST)?;
        let config = lab.directory().join("request.cnf");
        fs::write(
            &config,
            format!(
                "[req]\ndistinguished_name = name\nx509_extensions = more\n[name]\n[more]\nsubjectAltName = URI:{SPIFFE}\n"
            ),
        )?;
        let [key, certificate] = ["oms.key", "oms.crt"].map(|name| lab.directory().join(name));
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        request.args(["-days", "30", "-subj", "/CN=order-management", "-config"]).arg(&config);
        request.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let output = run_within(&mut request, slower(LIMIT))?;
        ensure!(output.status.success(), "openssl req: {}", String::from_utf8_lossy(&output.stderr));
        let mut serve = Command::new("openssl");
        serve
            .args(["s_server", "-accept", &SECURE.to_string(), "-www", "-Verify", "1", "-cert"])
            .arg(&certificate);
        serve.arg("-key").arg(&key).arg("-CAfile").arg(&certificate).stdin(Stdio::null());
        let mut server = Process::spawn(&host.namespace, &mut serve, &lab.directory().join("s_server.log"))?;
        let listener = host.namespace.run(|| TcpListener::bind(("0.0.0.0", EXPORTER)))??;
        std::thread::spawn(move || listener.incoming().flatten().for_each(export));
        let deadline = Instant::now() + slower(LIMIT);
        let address = SocketAddr::new(overlay(host)?, SECURE);
        while host.namespace.run(|| TcpStream::connect(address))?.is_err() {
            if server.ended()?.is_some() || Instant::now() > deadline {
                bail!("openssl s_server does not start: {}", server.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Services(server))
    }
}

fn overlay(host: &Host) -> Result<IpAddr> {
    host.overlay.first().copied().context("the host has no overlay address")
}

/// Answers whatever comes as an exporter does to whom it does not understand.
fn export(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(LIMIT));
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
}

/// Shows what the host's ports begin with, and holds it against what is there.
pub fn show(agents: &Agents) -> Result<()> {
    say(&format!("what service ports of {HOST} begin with, and present (`bulkhead tls scan`)"));
    // Ports in plaintext are a negative result.
    let text = agents.ask(HOST, &["tls", "scan"])?;
    eprint!("{text}");
    let line = |port: u16| text.lines().find(|line| line.contains(&format!(":{port} "))).unwrap_or_default();
    let (secure, exporter) = (line(SECURE), line(EXPORTER));
    ensure!(
        ["began as TLS", "demanded", SPIFFE].iter().all(|words| secure.contains(words)),
        "port {SECURE} begins as TLS, and that was not found"
    );
    ensure!(exporter.contains("plaintext (http)"), "port {EXPORTER} is in plaintext, and that was not found");
    Ok(())
}
