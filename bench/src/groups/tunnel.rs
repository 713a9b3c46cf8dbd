//! TCP and UDP through WireGuard in userspace (boringtun over TUN) between two namespaces, with
//! Bulkhead on both ends and without: throughput, CPU for a byte, latency of small requests.
//!
//! The same tunnel carries both: programs are attached and detached between rounds, and who goes
//! first changes from round to round.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_abi::Direction;
use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{Host, INTERFACE, Lab};
use bulkhead_testkit::measure::bpf::{self, Place};

use super::Effort;
use crate::figure::{Figure, Report, Unit};
use crate::stage::Stage;
use crate::stats::quantile;
use crate::wire::index_of;
use crate::world::Texts;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));
const PORT: u16 = 5201;
/// Bytes of a datagram: with its headers and the tunnel's still below an Ethernet frame.
const DATAGRAM: usize = 1300;
/// Datagrams that may be on their way: fewer than any buffer holds.
const WINDOW: u64 = 64;
/// Bytes of a small request, and of its answer.
const REQUEST: usize = 64;
/// What a connection may take to say anything.
const PATIENCE: Duration = Duration::from_secs(5);

const POLICY: &str = r#"{"acls": [{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:5201"]}],
    "tagOwners": {"tag:client": [], "tag:server": []}}"#;
const INVENTORY: &str = r#"{"nodes": [
    {"name": "client", "addresses": ["100.64.0.1"], "tags": ["tag:client"]},
    {"name": "server", "addresses": ["100.64.0.2"], "tags": ["tag:server"]}], "users": []}"#;

/// What one run of one workload gave, with or without the programs.
#[derive(Default)]
struct Series {
    /// 10^6 bytes a second.
    tcp: Vec<f64>,
    /// 10^6 bytes a second.
    udp: Vec<f64>,
    /// ns of CPU for a byte of TCP.
    cpu: Vec<f64>,
    /// µs, by quantile.
    latency: [Vec<f64>; QUANTILES.len()],
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures.
///
/// # Errors
/// If the system refuses.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    let mut lab = Lab::new("bench")?;
    for (name, address) in [("client", CLIENT), ("server", SERVER)] {
        lab.add_host(name, &[address])?;
    }
    lab.mesh(&effort.bulkhead)?;
    let mut pids = Vec::new();
    for name in ["client", "server"] {
        pids.push(lab.host_mut(name)?.tunnel().context("the host has no tunnel")?.pid());
    }
    let texts = Texts { policy: POLICY.to_owned(), inventory: INVENTORY.to_owned() };
    let mut stages = ["client", "server"].map(|name| -> Result<Stage> {
        let tables = texts.compile_for(name)?.tables;
        Stage::of_kind(Kind::BareIp, &tables, 4096, 1000)
    });
    let (rounds, length, requests) = effort.pick((7, 300, 500), (21, 2000, 5000));
    let length = Duration::from_millis(length);
    let mut series = [Series::default(), Series::default()];
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    let mut through = 0;
    // The first round warms up.
    for round in 0..=rounds {
        for turn in 0..2 {
            let with = (round + turn) % 2;
            let _links: Vec<OwnedFd> =
                if with == 1 { enforce(&mut stages, [client, server])? } else { Vec::new() };
            let before = passed(&stages)?;
            let cpu = cpu_time(&pids)?;
            let (bytes, time) = tcp(client, server, length)?;
            let cpu = cpu_time(&pids)?.saturating_sub(cpu);
            let (datagrams, udp_time) = udp(client, server, length)?;
            let times = latencies(client, server, requests)?;
            through += if with == 1 { passed(&stages)? - before } else { 0 };
            if round == 0 {
                continue;
            }
            let series = &mut series[with];
            series.tcp.push(bytes as f64 / time.as_secs_f64() / 1e6);
            series.cpu.push(cpu.as_nanos() as f64 / bytes as f64);
            series.udp.push((datagrams * DATAGRAM as u64) as f64 / udp_time.as_secs_f64() / 1e6);
            for ((_, q), values) in QUANTILES.iter().zip(&mut series.latency) {
                values.push(quantile(&times, *q));
            }
        }
    }
    ensure!(through > 0, "no packet passed the programs: they were not where the traffic is");
    conclude(series, through, report);
    Ok(())
}

fn conclude(series: [Series; 2], through: u64, report: &mut Report) {
    for (series, with) in series.into_iter().zip([false, true]) {
        let (name, words) = if with { ("with", "Bulkhead on both ends") } else { ("without", "no filter") };
        let mut add = |what: &str, title: &str, unit, rounds| {
            let mut figure =
                Figure::new(format!("tunnel/{what}/{name}"), format!("{title}, {words}"), unit, rounds);
            if with {
                figure =
                    figure.noted(format!("{through} packets were admitted by the programs, in all rounds"));
            }
            report.add(figure, &[&format!("tunnel/{what}/without")]);
        };
        add("tcp", "TCP throughput", Unit::Megabytes, series.tcp);
        add("udp", "UDP throughput", Unit::Megabytes, series.udp);
        add("cpu", "CPU for a byte of TCP, all processes", Unit::NanosecondsPerByte, series.cpu);
        for ((quantile, _), values) in QUANTILES.iter().zip(series.latency) {
            let title = format!("request and answer of {REQUEST} bytes, {quantile}");
            add(&format!("latency-{quantile}"), &title, Unit::Microseconds, values);
        }
    }
}

/// Puts the programs on both ends' tunnels; they go when the links are dropped.
fn enforce(stages: &mut [Result<Stage>; 2], hosts: [&Host; 2]) -> Result<Vec<OwnedFd>> {
    let mut links = Vec::new();
    for (stage, host) in stages.iter_mut().zip(hosts) {
        let stage = built(stage)?;
        let ingress = stage.ingress(bulkhead_testkit::measure::Hook::Tc)?;
        let egress = stage.egress()?;
        let attach = || -> Result<[OwnedFd; 2]> {
            let index = index_of(INTERFACE)?;
            let ingress = bpf::attach(Place::TcxIngress, ingress.as_fd(), index)?;
            Ok([ingress, bpf::attach(Place::TcxEgress, egress.as_fd(), index)?])
        };
        links.extend(host.namespace.run(attach)??);
    }
    Ok(links)
}

fn built(stage: &mut Result<Stage>) -> Result<&mut Stage> {
    stage.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Packets that the programs of both ends have let pass.
fn passed(stages: &[Result<Stage>; 2]) -> Result<u64> {
    let mut sum = 0;
    for stage in stages {
        let Ok(stage) = stage else { bail!("a program was not built") };
        sum += stage.count(Reason::Rule, Direction::Ingress);
        for direction in [Direction::Ingress, Direction::Egress] {
            sum += stage.count(Reason::Reply, direction);
        }
    }
    Ok(sum)
}

/// CPU time of the tunnels' processes and this one.
fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for pid in pids.iter().copied().chain([std::process::id()]) {
        let mut clock = 0;
        // SAFETY: the clock's number is written to an integer of ours.
        let answer = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
        ensure!(answer == 0, "process {pid} has no CPU clock: it has ended");
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one timespec.
        let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
        ensure!(answer == 0, "process {pid}: its CPU time: {}", std::io::Error::last_os_error());
        sum += Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    }
    Ok(sum)
}

/// Connects the two hosts; each end is used in its own thread.
fn connected<T: Send>(
    client: &Host,
    server: &Host,
    serve: impl FnOnce(TcpStream) -> Result<T> + Send,
    ask: impl FnOnce(TcpStream) -> Result<()> + Send,
) -> Result<T> {
    let listener = server.namespace.run(|| TcpListener::bind((SERVER, PORT)))?.context("listen")?;
    thread::scope(|scope| {
        let answer = scope.spawn(move || {
            let stream = accept(&listener)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            serve(stream)
        });
        let stream = client
            .namespace
            .run(|| TcpStream::connect_timeout(&SocketAddr::new(SERVER, PORT), PATIENCE))?
            .context("connect through the tunnel")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        ask(stream)?;
        answer.join().map_err(|_| anyhow::anyhow!("the receiving thread panicked"))?
    })
}

/// The next connection, or an error when none comes in time.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                ensure!(Instant::now() < deadline, "no connection came through the tunnel");
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("accept"),
        }
    }
}

/// Bytes that the server received, and in which time.
fn tcp(client: &Host, server: &Host, length: Duration) -> Result<(u64, Duration)> {
    let receive = |mut stream: TcpStream| {
        let mut buffer = vec![0; 1 << 16];
        let (start, mut bytes) = (Instant::now(), 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok((bytes, start.elapsed())),
                more => bytes += more as u64,
            }
        }
    };
    let send = |mut stream: TcpStream| {
        let (buffer, start) = (vec![0x5a; 1 << 16], Instant::now());
        while start.elapsed() < length {
            stream.write_all(&buffer)?;
        }
        Ok(())
    };
    connected(client, server, receive, send)
}

/// Datagrams that the server received, and in which time. The sender knows how many, and keeps a
/// window: what is measured is what gets through, not how fast a queue overflows.
fn udp(client: &Host, server: &Host, length: Duration) -> Result<(u64, Duration)> {
    let bind = |host: &Host, address| {
        let socket = host.namespace.run(|| UdpSocket::bind((address, PORT)))?.context("bind")?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok::<_, anyhow::Error>(socket)
    };
    let (from, to) = (bind(client, CLIENT)?, bind(server, SERVER)?);
    let (received, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            while !done.load(Ordering::Relaxed) {
                if to.recv(&mut buffer).is_ok() {
                    received.fetch_add(1, Ordering::Release);
                }
            }
        });
        let (start, mut sent, mut progress) = (Instant::now(), 0_u64, (0, Instant::now()));
        let mut failed = None;
        while start.elapsed() < length {
            let got = received.load(Ordering::Acquire);
            if got != progress.0 {
                progress = (got, Instant::now());
            }
            if sent - got < WINDOW {
                if let Err(error) = from.send_to(&[0x5a; DATAGRAM], (SERVER, PORT)) {
                    failed = Some(error);
                    break;
                }
                sent += 1;
            } else if progress.1.elapsed() > Duration::from_millis(20) {
                // Some were lost: the window starts anew.
                sent = got;
            } else {
                thread::yield_now();
            }
        }
        let (got, time) = (received.load(Ordering::Acquire), start.elapsed());
        done.store(true, Ordering::Relaxed);
        match failed {
            Some(error) => Err(error).context("send a datagram"),
            None => Ok((got, time)),
        }
    })
}

/// How long each small request took until its answer was there, µs.
fn latencies(client: &Host, server: &Host, requests: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(requests);
    let answer = |mut stream: TcpStream| {
        let mut buffer = [0; REQUEST];
        for _ in 0..requests {
            stream.read_exact(&mut buffer)?;
            stream.write_all(&buffer)?;
        }
        Ok(())
    };
    let ask = |mut stream: TcpStream| {
        let mut buffer = [0x5a; REQUEST];
        for _ in 0..requests {
            let start = Instant::now();
            stream.write_all(&buffer)?;
            stream.read_exact(&mut buffer)?;
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        Ok(())
    };
    connected(client, server, answer, ask)?;
    Ok(times)
}
