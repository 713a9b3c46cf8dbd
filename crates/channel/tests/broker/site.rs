//! A cluster with a fleet's account.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_channel::{Account, Client, Settings, prepare};
use bulkhead_http::Tls;
use bulkhead_testkit::nats::{Cluster, Place, Plan};

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Site {
    pub cluster: Cluster,
    pub account: Option<Account>,
    pub directory: tempfile::TempDir,
}

impl Site {
    /// Servers with TLS and a fleet's account.
    pub async fn closed(servers: usize) -> Self {
        Self::of_account(Plan { is_tls: true, ..Plan::open(servers) }).await
    }

    /// The same, which take servers of sites.
    pub async fn hub(servers: usize, is_tls: bool) -> Self {
        Self::of_account(Plan { is_tls, place: Place::Hub, ..Plan::open(servers) }).await
    }

    /// Servers with a fleet's account, without TLS, for a client that does as it likes.
    pub async fn plain(servers: usize) -> Self {
        Self::of_account(Plan::open(servers)).await
    }

    async fn of_account(plan: Plan) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let account = Account::create(&directory.path().join("account")).unwrap();
        let include = account.server_configuration().unwrap();
        let servers = plan.servers;
        let cluster = Cluster::start(Plan { include: Some(include), ..plan }, None).unwrap();
        let site = Self { cluster, account: Some(account), directory };
        site.prepare(servers).await;
        site
    }

    /// Servers that are open to everybody.
    pub async fn open(servers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(Plan::open(servers), None).unwrap();
        let site = Self { cluster, account: None, directory };
        site.prepare(servers).await;
        site
    }

    async fn prepare(&self, copies: usize) {
        let maker = self.service("streams").await;
        prepare(&maker, u8::try_from(copies).unwrap()).await.unwrap();
    }

    pub fn account(&self) -> &Account {
        self.account.as_ref().unwrap()
    }

    pub fn settings(&self, credentials: Option<PathBuf>, name: &str) -> Settings {
        let tls = Tls { ca: self.cluster.ca(), identity: None };
        Settings { servers: self.cluster.urls(), credentials, tls, name: name.to_owned() }
    }

    /// Settings of a service, such as `publisher`.
    pub fn service_settings(&self, name: &str) -> Settings {
        let file = self.account.as_ref().map(|_| self.directory.path().join(format!("account/{name}.creds")));
        self.settings(file, name)
    }

    /// A connected service.
    pub async fn service(&self, name: &str) -> Client {
        let client = Client::new(self.service_settings(name)).unwrap();
        client.connected(SOON).await.unwrap();
        client
    }

    /// Settings of an agent, with credentials that are made for it.
    pub fn agent_settings(&self, node: &str) -> Settings {
        let Some(account) = &self.account else { return self.settings(None, node) };
        let file = self.directory.path().join(format!("{node}.creds"));
        account.agent_credentials(node).unwrap().write(&file).unwrap();
        self.settings(Some(file), node)
    }

    /// A connected agent's client.
    pub async fn agent(&self, node: &str) -> Client {
        let client = Client::new(self.agent_settings(node)).unwrap();
        client.connected(SOON).await.unwrap();
        client
    }
}
