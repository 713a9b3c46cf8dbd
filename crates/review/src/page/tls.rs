//! Section 11: TLS at service ports, as it was when the pack was made.

use bulkhead_api::tls::{Began, Coverage, Port, SeenBy, Wanted};
use maud::{Markup, html};

use super::words::{moment, text};

/// Ports and files that are shown: of a page that is read.
const SHOWN: usize = 200;

pub(super) fn tls(of: Option<&Coverage>) -> Markup {
    html! {
        @match of {
            None => p.unknown { "Not known: no agent answered where this was made." },
            Some(coverage) => {
                @if coverage.ports.is_empty() { p { "Nobody listens at overlay addresses." } }
                @else { (ports(&coverage.ports)) }
                @if !coverage.files.is_empty() { (files(coverage)) }
                @for note in &coverage.notes { p.legend { (text(note)) } }
            },
        }
        p.legend { "What a port begins with says nothing of what follows. A certificate, and a SPIFFE ID in it, is presented: nobody vouches for it." }
    }
}

fn ports(ports: &[Port]) -> Markup {
    html! {
        table {
            thead { tr { th { "Port" } th { "Process" } th { "Rules want" } th { "Begins" } th { "Client certificate" } th { "Certificate" } th { "Presented" } } }
            tbody { @for port in ports.iter().take(SHOWN) { (line(port)) } }
        }
        @if ports.len() > SHOWN { p.more { "and " (ports.len() - SHOWN) " more; the JSON has all" } }
    }
}

fn line(port: &Port) -> Markup {
    let process = port.process.as_deref().unwrap_or("–");
    html! {
        tr {
            td { span.nowrap { (port.port) "/" (text(&port.protocol)) } }
            td { strong { (text(process)) } @if let Some(unit) = &port.unit { br; small { (text(unit)) } } @if let Some(name) = &port.workload { br; small { "workload " (text(name)) } } }
            td {
                @match port.wanted {
                    Some(Wanted::Required) if port.is_required => span.badge.good { "required" },
                    Some(Wanted::Required) => span.badge.warn { "required by some" },
                    Some(Wanted::Observe) => "observed",
                    None => "–",
                }
            }
            td {
                (began(port))
                @if let Some(counted) = port.counted { br; small { (counted.began) " began as TLS, " (counted.plaintext) " in plaintext, " (counted.unverified) " unverified" } }
                @if let Some(why) = &port.why { br; small { (text(why)) } }
            }
            td { @if port.certificate.is_some() { (port.client_certificate.words()) } @else { "–" } }
            td {
                @match &port.certificate {
                    None => "–",
                    Some(own) => {
                        @if let Some(why) = &port.invalid { span.badge.bad { (text(why)) } }
                        @else { "until " (moment(own.not_after)) }
                        @if let Some(why) = &port.untrusted { br; small { "chain not trusted: " (text(why)) } }
                    },
                }
            }
            td { @if let Some(own) = &port.certificate { (text(&names(own))) } @else { "–" } }
        }
    }
}

fn names(own: &bulkhead_api::tls::Certificate) -> String {
    if own.spiffe.is_empty() { own.title().to_owned() } else { own.spiffe.join(", ") }
}

fn began(port: &Port) -> Markup {
    let class = match port.began {
        Began::Tls => "good",
        Began::Plaintext => "bad",
        Began::Unknown => "unknown",
    };
    html! {
        span class={ "badge " (class) } { (port.began.words()) }
        @if let Some(protocol) = &port.looks_like { " " (text(protocol)) }
        @match port.by { Some(SeenBy::Kernel) => { " " small { "counted" } }, Some(SeenBy::Probe) => { " " small { "probed" } }, None => {} }
    }
}

fn files(coverage: &Coverage) -> Markup {
    html! {
        h3 { "Files of certificates" }
        ul {
            @for file in coverage.files.iter().take(SHOWN) {
                li {
                    code { (text(&file.file)) }
                    @for own in &file.certificates { ", " (text(&names(own))) " until " (moment(own.not_after)) }
                    @if let Some(why) = &file.problem { " " span.badge.bad { (text(why)) } }
                }
            }
        }
    }
}
