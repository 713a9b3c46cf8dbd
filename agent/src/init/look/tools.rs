//! What the overlays' own tools tell: wg(8), tailscale, netbird. Private keys are not asked for.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::process::Command;

use crate::init::Host;
use crate::init::host::{Overlay, Peer, WireGuard};

/// How long a tool may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks those that are there.
pub(super) async fn ask(host: &mut Host) {
    let mut unknown = Vec::new();
    for interface in &mut host.interfaces {
        let is_kernels = interface.kind == "wireguard";
        if !is_kernels && interface.kind != "tun" {
            continue;
        }
        match wireguard(&interface.name).await {
            Ok(found) => interface.wireguard = Some(found),
            // Whatever made another TUN device, wg does not know it.
            Err(why) if is_kernels => unknown.push(format!("the peers of {}: {why}", interface.name)),
            Err(_) => {}
        }
    }
    let overlays: Vec<Overlay> = host.managed().map(|(_, overlay)| overlay).collect();
    for (overlay, program) in [(Overlay::Tailscale, "tailscale"), (Overlay::NetBird, "netbird")] {
        if !overlays.contains(&overlay) {
            continue;
        }
        match run(program, &["status", "--json"]).await {
            Ok(text) if overlay == Overlay::Tailscale => host.tailscale = Some(text),
            Ok(text) => host.netbird = Some(text),
            Err(why) => unknown.push(format!("the nodes of {program}: {why}")),
        }
    }
    host.unknown.append(&mut unknown);
}

async fn wireguard(interface: &str) -> Result<WireGuard, String> {
    // `dump` would have private keys in it.
    let of = async |what| run("wg", &["show", interface, what]).await;
    let key = key(of("public-key").await?.trim());
    let port = of("listen-port").await?.trim().parse().ok().filter(|port| *port != 0);
    Ok(WireGuard { key, port, peers: peers(&of("allowed-ips").await?) })
}

/// `KEY<tab>PREFIX PREFIX ...`, a line for each peer; `(none)` for none.
fn peers(text: &str) -> Vec<Peer> {
    let peer = |line: &str| {
        let (peer, prefixes) = line.split_once('\t')?;
        let allowed = prefixes.split_whitespace().filter_map(|prefix| prefix.parse().ok()).collect();
        Some(Peer { key: key(peer)?, allowed })
    };
    text.lines().filter_map(peer).collect()
}

fn key(text: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// What a program prints; else why it does not.
async fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let asked = tokio::time::timeout(PATIENCE, command.output()).await;
    let words = words.join(" ");
    match asked {
        Err(_) => Err(format!("`{program} {words}` does not answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("`{program} {words}`: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it says nothing").to_owned();
            Err(format!("`{program} {words}` fails: {said}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::peers;

    #[test]
    fn peers_are_read_as_wg_prints_them() {
        let (a, b) =
            ("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let text = format!("{a}\t10.0.0.2/32 fd00::2/128 10.20.0.0/16\n{b}\t(none)\nshort\t10.0.0.3/32\n\n");
        let peers = peers(&text);
        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].key[0], peers[0].allowed.len()), (1, 3));
        assert_eq!((peers[1].key[0], peers[1].allowed.len()), (2, 0));
        assert_eq!(peers[0].allowed[2].to_string(), "10.20.0.0/16");
    }
}
