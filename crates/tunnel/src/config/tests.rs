use super::*;

const KEY_A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const KEY_B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const KEY_C: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn fails(text: &str, line: usize, says: &str) {
    let error = parse("wg0.conf", text).expect_err(text).to_string();
    assert!(error.starts_with(&format!("wg0.conf:{line}: ")), "{error}");
    assert!(error.contains(says), "{error}");
}

/// An [Interface] of three lines, then `rest`.
fn with(rest: &str) -> String {
    format!("[Interface]\nPrivateKey = {KEY_A}\nAddress = 100.64.0.1/32\n{rest}")
}

#[test]
fn a_whole_file() {
    let text = format!(
        "# a comment\n[interface]\nprivatekey={KEY_A}\nAddress = 100.64.0.1/24, fd7a::1\nAddress = 100.64.0.9\n\
         ListenPort = 51820 # ours\nMTU = 1380\nTable = off\nFwMark = 0xca6c\n\n\
         [Peer]\nPublicKey = {KEY_B}\nPresharedKey = {KEY_C}\nAllowedIPs = 100.64.0.2, 10.1.2.3/8\n\
         AllowedIPs = fd7a::2/128\nEndpoint = [2001:db8::2]:51820\nPersistentKeepalive = 25\n\
         [Peer]\nPublicKey = {KEY_C}\nAllowedIPs =\nEndpoint = gw.example.com:7\nPersistentKeepalive = off\n"
    );
    let config = parse("wg0.conf", &text).unwrap();
    let interface = &config.interface;
    assert_eq!(interface.private_key.0, [1; 32]);
    let shown: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["100.64.0.1/24", "fd7a::1/128", "100.64.0.9/32"]);
    assert_eq!((interface.listen_port, interface.mtu, interface.mark), (51820, 1380, 0xca6c));
    assert_eq!(interface.table, Table::Off);
    let [b, c] = config.peers.as_slice() else { panic!("two peers") };
    assert_eq!((b.public_key, b.keepalive, b.line), ([2; 32], 25, 11));
    assert_eq!(b.preshared_key.as_ref().map(|key| key.0), Some([3; 32]));
    let allowed: Vec<_> = b.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["100.64.0.2/32", "10.0.0.0/8", "fd7a::2/128"], "host bits are not part of a prefix");
    assert_eq!(b.endpoint, Some(Endpoint::Address("[2001:db8::2]:51820".parse().unwrap())));
    assert_eq!(c.endpoint, Some(Endpoint::Name { host: "gw.example.com".into(), port: 7 }));
    assert!(c.allowed.is_empty() && c.keepalive == 0 && c.preshared_key.is_none());
    assert!(config.warnings.is_empty());
}

#[test]
fn what_is_left_out_has_wg_quicks_defaults() {
    let interface = parse("wg0.conf", &with("")).unwrap().interface;
    assert_eq!((interface.listen_port, interface.mtu, interface.mark), (0, 1420, 0));
    assert_eq!(interface.table, Table::Main);
}

#[test]
fn hooks_are_warned_about_and_may_repeat() {
    let config =
        parse("wg0.conf", &with("PostUp = rm -rf /\nPostUp = true\nDNS = 10.0.0.1\nSaveConfig = true\n"));
    let warnings = config.unwrap().warnings;
    assert_eq!(warnings.len(), 4);
    assert!(warnings[0].starts_with("wg0.conf:4: PostUp is not acted on"), "{}", warnings[0]);
    assert!(warnings[2].starts_with("wg0.conf:6: DNS"), "{}", warnings[2]);
}

#[test]
fn bad_lines_name_themselves() {
    fails("", 1, "has no [Interface]");
    fails("PrivateKey = x", 1, "before any section");
    fails("[Interface]\nAddress = 10.0.0.1", 1, "has no PrivateKey");
    fails(&format!("[Interface]\nPrivateKey = {KEY_A}"), 1, "has no Address");
    fails(&with("[Interface]"), 4, "first is on line 1");
    fails(&with("[Pear]"), 4, "no such section; write [Interface]");
    fails(&with("Adress = 1.2.3.4"), 4, "unknown key in [Interface]; it takes PrivateKey, Address,");
    fails(&with("ListenPort = 65536"), 4, "not a UDP port");
    fails(&with("ListenPort ="), 4, "has no value");
    fails(&with("MTU = 70000"), 4, "not an MTU");
    fails(&with("Table = main2"), 4, "not a routing table");
    fails(&with("Address = 100.64.0.1/33"), 4, "not an address or prefix");
    fails(&with("MTU = 1400\nmtu = 1401"), 5, "first on line 4");
    fails(&with("[Peer]\nAllowedIPs = 10.0.0.0/8"), 4, "has no PublicKey");
    fails(&with("[Peer]\nPublicKey = AQEB"), 5, "not a WireGuard key");
    fails(
        &with(&format!("[Peer]\nPublicKey = {KEY_B}\nPostUp = x")),
        6,
        "unknown key in [Peer]; it takes PublicKey,",
    );
    fails(&with(&format!("[Peer]\nPublicKey = {KEY_B}\nPersistentKeepalive = 70000")), 6, "0 to 65535");
    fails(&with(&format!("[Peer]\nPublicKey = {KEY_B}\nnonsense")), 6, "neither a section");
    for endpoint in ["10.0.0.1", "10.0.0.1:0", ":7", "300.1.2.3:7", "2001:db8::1:7", "[2001:db8::1]", "a b:7"]
    {
        fails(&with(&format!("[Peer]\nPublicKey = {KEY_B}\nEndpoint = {endpoint}")), 6, "Endpoint");
    }
}

#[test]
fn a_peer_stands_once_and_is_not_ourselves() {
    let own = x25519_public([1; 32]);
    fails(&with(&format!("[Peer]\nPublicKey = {own}")), 4, "our own");
    fails(&with(&format!("[Peer]\nPublicKey = {KEY_B}\n[Peer]\nPublicKey = {KEY_B}")), 6, "merge the two");
}

#[test]
fn a_prefix_has_one_peer() {
    let two = |a, b| {
        with(&format!(
            "[Peer]\nPublicKey = {KEY_B}\nAllowedIPs = {a}\n[Peer]\nPublicKey = {KEY_C}\nAllowedIPs = {b}"
        ))
    };
    fails(&two("10.0.0.0/8", "10.9.9.9/8"), 9, "another peer already, on line 6");
    // A longer prefix inside another peer's is how cryptokey routing makes exceptions.
    assert!(parse("wg0.conf", &two("10.0.0.0/8", "10.1.0.0/16")).is_ok());
    assert!(parse("wg0.conf", &two("10.0.0.1, 10.0.0.1", "10.0.0.2")).is_ok());
}

#[test]
fn a_default_route_needs_table_off() {
    let peer = format!("[Peer]\nPublicKey = {KEY_B}\nAllowedIPs = 10.0.0.0/8\nAllowedIPs = ::/0\n");
    fails(&with(&peer), 7, "Table = off");
    assert!(parse("wg0.conf", &with(&format!("Table = off\n{peer}"))).is_ok());
}

/// Keys as people hold them: base64 with and without its end, hexadecimal, broken.
fn secrets() -> Vec<String> {
    let key = "B2tvx9Lm3QeRzYwUiOpAsDfGhJkLzXcVbNmQwErTyU0=";
    let hexadecimal = "8d3c5f4b2a19080716f5e4d3c2b1a0ff0e1d2c3b4a59687786958473625140af";
    [key, &key[..43], &key[..40], hexadecimal].map(str::to_owned).to_vec()
}

/// Fails if a text shows eight characters of a secret in a row.
fn keeps(secret: &str, text: &str) {
    for at in 0..secret.len() - 8 {
        assert!(!text.contains(&secret[at..at + 8]), "{secret} in {text}");
    }
}

#[test]
fn no_message_repeats_what_a_line_says() {
    let known = keys::INTERFACE.into_iter().chain(keys::NOT_ACTED_ON).chain(keys::PEER);
    let names: Vec<&str> = known.chain(["Nonsense", "[Interface]", "[Peer]", "[", "#x\r[", ""]).collect();
    let mut refused = 0;
    for secret in secrets() {
        for name in &names {
            for between in [" = ", "=", ": ", " ", "", " = 10.0.0.1/32, ", " = gw.", " = host:", "\u{0}"] {
                for (before, after) in
                    [("", ""), ("", "="), ("", ":51820"), ("\u{0}", "\u{1b}[2J"), ("", "]")]
                {
                    let line = format!("{before}{name}{between}{secret}{after}\n");
                    for text in
                        [line.clone(), with(&line), with(&format!("[Peer]\nPublicKey = {KEY_B}\n{line}"))]
                    {
                        match parse("wg0.conf", &text) {
                            Ok(config) => config.warnings.iter().for_each(|warning| keeps(&secret, warning)),
                            Err(error) => {
                                refused += 1;
                                keeps(&secret, &error.to_string());
                                keeps(&secret, &format!("{error:?}"));
                                assert!(!error.to_string().contains(char::is_control), "{error}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 5000, "{refused}");
    assert!(!format!("{:?}", parse("wg0.conf", &with("")).unwrap()).contains("1, 1, 1"));
}

#[test]
fn a_line_ends_with_either_character_or_both() {
    let text = with(&format!("# a comment\n\n[Peer]\nPublicKey = {KEY_B}\nAllowedIPs = 10.0.0.0/8\n"));
    for end in ["\r", "\r\n", "\n"] {
        let config = parse("wg0.conf", &text.replace('\n', end)).unwrap();
        assert_eq!((config.peers.len(), config.peers[0].line), (1, 6), "{end:?}");
        fails(&with("MTU = x").replace('\n', end), 4, "MTU is not an MTU");
    }
    // What follows a comment is another line.
    fails(&with("# a comment\rMTU = x"), 5, "not an MTU");
}

#[test]
fn interface_names() {
    for good in ["wg0", "wg-trading.prod", "a"] {
        assert_eq!(check_interface_name(good), Ok(()));
    }
    for bad in ["", ".", "..", "a/b", "wg 0", "sixteencharacter", "wg%d"] {
        assert!(check_interface_name(bad).unwrap_err().contains("--interface"), "{bad}");
    }
}

fn x25519_public(secret: [u8; 32]) -> String {
    use base64::Engine as _;
    let public = boringtun::x25519::PublicKey::from(&boringtun::x25519::StaticSecret::from(secret));
    base64::engine::general_purpose::STANDARD.encode(public.as_bytes())
}
