//! `bulkhead generate`: man pages and shell completions, from the definition of the command line.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap_complete::Shell;

use crate::exit::Answer;

/// Write man pages and shell completions, for packages.
///
/// `man1/*.1`, and `completions/` with a file for bash, zsh and fish.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// Where to write.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Generate {
    /// Writes them for a command line.
    pub fn run(&self, cli: &clap::Command) -> anyhow::Result<Answer> {
        let (pages, completions) = (self.directory.join("man1"), self.directory.join("completions"));
        for directory in [&pages, &completions] {
            fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        clap_mangen::generate_to(cli.clone(), &pages)
            .with_context(|| format!("write man pages to {}", pages.display()))?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut cli.clone(), "bulkhead", &completions)
                .with_context(|| format!("write completions to {}", completions.display()))?;
        }
        Ok(Answer::Yes)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Generate;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_and_a_completion() {
        let directory = std::env::temp_dir().join(format!("bulkhead-generate-{}", std::process::id()));
        Generate { directory: directory.clone() }.run(&Cli::command()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.join("man1").join(name)).unwrap();
        let bash = std::fs::read_to_string(directory.join("completions/bulkhead.bash")).unwrap();
        let cli = Cli::command();
        let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
        for name in shown.map(clap::Command::get_name) {
            assert!(page(&format!("bulkhead-{name}.1")).contains(".SH SYNOPSIS"), "{name}");
            assert!(page("bulkhead.1").contains(&format!("bulkhead\\-{name}")), "{name}");
            assert!(bash.contains(&format!("bulkhead,{name})")), "{name}");
        }
        assert!(!directory.join("man1/bulkhead-generate.1").exists(), "it is for packagers");
        for file in ["_bulkhead", "bulkhead.fish"] {
            assert!(std::fs::metadata(directory.join("completions").join(file)).unwrap().len() > 1000);
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
