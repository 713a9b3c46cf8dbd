//! Which policy language a file is written in.

/// The dialect of a policy file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Tailscale's language and our extensions. Nothing absent allows anything.
    #[default]
    Bulkhead,
    /// Exactly Tailscale's: extensions are refused with Tailscale's words, and a file with
    /// neither acls nor grants allows everything.
    Tailscale,
}

impl std::str::FromStr for Dialect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bulkhead" => Ok(Self::Bulkhead),
            "tailscale" => Ok(Self::Tailscale),
            other => Err(format!("unknown dialect \"{other}\": bulkhead or tailscale")),
        }
    }
}
