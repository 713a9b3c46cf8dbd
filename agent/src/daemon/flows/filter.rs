//! Which flows are meant.

use bulkhead_abi::{FlowKey, FlowValue};
use bulkhead_api::event::Protocol;
use bulkhead_api::flow::Query;
use bulkhead_policy::address::AddressSet;

use super::{Known, sides};
use crate::exit::Usage;

/// All that is given must hold.
pub struct Filter {
    with: Option<AddressSet>,
    port: Option<u16>,
    protocol: Option<u8>,
    state: Option<u8>,
    zone: Option<u16>,
}

impl Filter {
    /// What a query means.
    ///
    /// # Errors
    /// What it names that is not known.
    pub fn new(query: &Query, known: &Known) -> Result<Self, Usage> {
        let protocol = |text: &String| {
            let words = "no protocol; give a name such as tcp, or a number to 255";
            Protocol::of(text).ok_or_else(|| Usage(format!("\"{text}\" is {words}")))
        };
        Ok(Self {
            with: query.with.as_deref().map(|who| known.addresses(who)).transpose()?,
            port: query.port,
            protocol: query.protocol.as_ref().map(protocol).transpose()?.map(|protocol| protocol.0),
            state: query.state.map(|state| state as u8),
            zone: query.interface.as_deref().map(|interface| known.zone(interface)).transpose()?,
        })
    }

    /// Whether a flow is meant.
    pub fn is_meant(&self, key: &FlowKey, value: &FlowValue) -> bool {
        let has_port = |port: &u16| {
            Protocol(key.protocol).has_ports() && (key.initiator_port == *port || key.responder_port == *port)
        };
        self.protocol.is_none_or(|protocol| key.protocol == protocol)
            && self.state.is_none_or(|state| value.state == state)
            && self.zone.is_none_or(|zone| key.zone == zone)
            && self.port.as_ref().is_none_or(has_port)
            && self.with.as_ref().is_none_or(|with| with.contains(sides(key).1.address))
    }
}
