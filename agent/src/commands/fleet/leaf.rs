//! `bulkhead fleet leaf` and `remove-leaf`: servers of sites, which hosts there connect to.

use std::path::PathBuf;

use bulkhead_channel::{Account, Upstream, tell_servers};

use super::broker::{Broker, wrong};
use crate::client::block_on;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Make what the server of a site needs (a leaf node of NATS).
///
/// Hosts of the site connect to it as to any other server, with the same credentials. Its own allow what any host may
/// ask, and nothing else. Copy the new directory to that server alone.
#[derive(Debug, clap::Args)]
pub struct Leaf {
    /// The site's name.
    #[arg(value_name = "SITE")]
    site: String,
    /// The directory of `bulkhead fleet account`.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    /// Where a server takes leaf nodes, such as tls://nats-1:7422.
    ///
    /// Again for others of the same cluster.
    #[arg(long = "upstream", value_name = "URL", required = true)]
    servers: Vec<String>,
    /// A file, there, of certificates to trust those servers by.
    #[arg(long = "upstream-ca", value_name = "FILE")]
    ca: Option<String>,
    /// Where to: a new directory [default: SITE here].
    #[arg(long, short, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Remove the server of a site.
///
/// Its connections end, and it comes back no more. Its hosts stay enrolled, and come in by any other server.
#[derive(Debug, clap::Args)]
pub struct RemoveLeaf {
    /// The site's name.
    #[arg(value_name = "SITE")]
    site: String,
    #[command(flatten)]
    broker: Broker,
    /// The directory of `bulkhead fleet account`.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
}

impl Leaf {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Account::open(&self.account).map_err(wrong)?;
        let output = self.output.clone().unwrap_or_else(|| bulkhead_channel::token(&self.site).into());
        let upstream = Upstream { servers: &self.servers, ca: self.ca.as_deref() };
        account.leaf(&self.site, upstream, &output).map_err(wrong)?;
        if global.json {
            println!("{}", serde_json::json!({ "site": self.site, "directory": output }));
        } else {
            let [own, fleet] = ["leaf.conf", "nats-server.conf"].map(|file| output.join(file));
            println!(
                "{}: the server of {} includes {} and {}",
                output.display(),
                self.site,
                own.display(),
                fleet.display()
            );
        }
        Ok(Answer::Yes)
    }
}

impl RemoveLeaf {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Account::open(&self.account).map_err(wrong)?;
        let revoked = account.revoke_leaf(&self.site).map_err(wrong)?;
        let jwts = revoked.ok_or_else(|| Usage(format!("{}: nothing was made here for it", self.site)))?;
        block_on(async {
            let system = self.broker.connect(&self.account.join("system.creds")).await?;
            for jwt in &jwts {
                tell_servers(&system, jwt).await?;
            }
            Ok(())
        })?;
        if global.json {
            println!("{}", serde_json::json!({ "site": self.site, "revoked": true }));
        } else {
            println!("{}: the credentials of its server are revoked", self.site);
        }
        Ok(Answer::Yes)
    }
}
