//! The command that the test suite of The Update Framework drives (CLIENT-CLI.md of theupdateframework/tuf-conformance).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_fleet::conformance::Foreign;
use bulkhead_fleet::{Https, Origin, OriginError};
use bulkhead_http::Tls;
use clap::{Parser, Subcommand};

type Failed = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Cli {
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long, default_value = "")]
    metadata_url: String,
    #[arg(long)]
    target_name: Vec<String>,
    #[arg(long, default_value = "")]
    target_base_url: String,
    #[arg(long, default_value = ".")]
    target_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init { root: PathBuf },
    Refresh,
    Download,
}

/// A web server with the two directories of one repository anywhere.
#[derive(Debug)]
struct Server {
    metadata: Https,
    targets: Https,
}

#[async_trait]
impl Origin for Server {
    async fn file(&self, path: &str, longest: u64) -> Result<Option<Vec<u8>>, OriginError> {
        match (path.strip_prefix("policy/metadata/"), path.strip_prefix("policy/targets/")) {
            (Some(name), _) => self.metadata.file(name, longest).await,
            (_, Some(name)) => self.targets.file(name, longest).await,
            _ => Ok(None),
        }
    }
}

impl Cli {
    fn init(&self, root: &Path) -> Result<(), Failed> {
        fs::create_dir_all(self.state())?;
        fs::copy(root, self.first())?;
        fs::copy(root, self.metadata_dir.join("root.json"))?;
        Ok(())
    }

    /// The client's own, which the suite does not look at.
    fn state(&self) -> PathBuf {
        self.metadata_dir.join("state")
    }

    fn first(&self) -> PathBuf {
        self.metadata_dir.join("first-root")
    }

    async fn update(&self, names: &[String]) -> Result<(), Failed> {
        let at = |url: &str| Https::new(url, &Tls::default());
        let targets =
            if self.target_base_url.is_empty() { &self.metadata_url } else { &self.target_base_url };
        let origin: Arc<dyn Origin> =
            Arc::new(Server { metadata: at(&self.metadata_url)?, targets: at(targets)? });
        let mut client = Foreign::open(&fs::read(self.first())?, &self.state())?;
        let came = client.refresh(&origin).await;
        // What is trusted now, as the suite reads it.
        let trusted = client.trusted();
        for name in ["timestamp.json", "snapshot.json", "targets.json"] {
            // One that is not there is gone already.
            let _ = fs::remove_file(self.metadata_dir.join(name));
        }
        for (name, text) in trusted {
            fs::write(self.metadata_dir.join(name), text)?;
        }
        came?;
        for name in names {
            let bytes = client.target(&*origin, name).await?;
            fs::write(self.target_dir.join(name.replace('/', "%2F")), bytes)?;
        }
        Ok(())
    }

    fn run(&self) -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match &self.command {
            Command::Init { root } => self.init(root),
            Command::Refresh => runtime.block_on(self.update(&[])),
            Command::Download => runtime.block_on(self.update(&self.target_name)),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
