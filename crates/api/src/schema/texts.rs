//! Schemas of what travels as text.

use std::borrow::Cow;

use bulkhead_abi::Reason as OfPrograms;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::event::{EtherType, GuardReason, Protocol, Reason, Timestamp};

macro_rules! text {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(Timestamp, "Timestamp", {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339, UTC, nine digits of a second.",
    "examples": ["2026-11-28T08:53:14.000000000Z"],
});
text!(Protocol, "Protocol", {
    "type": "string",
    "description": "An IP protocol: its name as in policies, else its number.",
    "examples": ["tcp", "41"],
});
text!(EtherType, "EtherType", {
    "type": "string",
    "pattern": "^0x[0-9a-f]{4}$",
    "description": "An EtherType; below 0x0600 it is a length (IEEE 802.3).",
});

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let programs = OfPrograms::ALL.iter().map(|reason| reason.name());
        let names: Vec<&str> = programs.chain(GuardReason::ALL.map(GuardReason::name)).collect();
        json_schema!({
            "description": "Why, by a stable name; a number where the agent does not know its name.",
            "anyOf": [{ "type": "string", "enum": names }, { "type": "string", "pattern": "^[0-9]{1,3}$" }],
        })
    }
}
