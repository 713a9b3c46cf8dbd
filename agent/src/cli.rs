//! The command line: what there is to say, and who does it.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands;
use crate::exit::Answer;
use crate::global::Global;
use crate::version::LONG;

/// Enforce least privilege between hosts.
///
/// In the kernel, on WireGuard and exchange-facing interfaces.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, long_version = LONG, arg_required_else_help = true, max_term_width = 80)]
#[cfg_attr(
    not(feature = "agent"),
    command(after_help = "These are the policy tools alone: commands of the agent are not in this build.")
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands; each has a module of its own.
#[derive(Debug, Subcommand)]
pub enum Command {
    Check(commands::check::Check),
    Explain(commands::explain::Explain),
    Eval(commands::eval::Eval),
    Compile(commands::compile::Compile),
    Diff(commands::diff::Diff),
    Inventory(commands::inventory::Inventory),
    #[cfg(unix)]
    Request(commands::grants::Request),
    #[cfg(unix)]
    Approve(commands::grants::Approve),
    #[cfg(unix)]
    Sign(commands::grants::Sign),
    #[cfg(feature = "agent")]
    #[command(flatten)]
    Agent(AgentCommand),
    #[cfg(feature = "tunnel")]
    Tunnel(commands::tunnel::Tunnel),
    Version(commands::version::Version),
    #[command(hide = true)]
    Generate(commands::generate::Generate),
    /// What only a build with the agent has.
    #[cfg(not(feature = "agent"))]
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// The commands that run an agent or ask one.
#[cfg(feature = "agent")]
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    Init(commands::init::Init),
    Run(commands::run::Run),
    Status(commands::status::Status),
    Watch(commands::watch::Watch),
    Flows(commands::flows::Flows),
    Apply(commands::apply::Apply),
    Confirm(commands::apply::Confirm),
    Rollback(commands::apply::Rollback),
    History(commands::history::History),
    Drift(commands::drift::Drift),
    Suggest(commands::suggest::Suggest),
    Review(commands::review::Review),
    Stage(commands::stage::Stage),
    Unstage(commands::stage::Unstage),
    Promote(commands::stage::Promote),
    Quarantine(commands::quarantine::Quarantine),
    Release(commands::quarantine::Release),
    Grant(commands::grants::GrantCommand),
    Grants(commands::grants::Grants),
    Revoke(commands::grants::Revoke),
    Sources(commands::sources::Sources),
    Fleet(commands::fleet::Fleet),
    Attach(commands::attach::Attach),
    Detach(commands::detach::Detach),
    Guard(commands::guard::Guard),
    Doctor(commands::doctor::Doctor),
    Exposed(commands::exposed::Exposed),
    Tls(commands::tls::Tls),
    Audit(commands::audit::Audit),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Answer> {
        let global = &self.global;
        match self.command {
            Command::Check(command) => command.run(global),
            Command::Explain(command) => command.run(global),
            Command::Eval(command) => command.run(global),
            Command::Compile(command) => command.run(global),
            Command::Diff(command) => command.run(global),
            Command::Inventory(command) => command.run(global),
            #[cfg(unix)]
            Command::Request(command) => command.run(global),
            #[cfg(unix)]
            Command::Approve(command) => command.run(global),
            #[cfg(unix)]
            Command::Sign(command) => command.run(global),
            #[cfg(feature = "agent")]
            Command::Agent(command) => command.run(global),
            #[cfg(feature = "tunnel")]
            Command::Tunnel(command) => command.run(),
            Command::Version(command) => command.run(global),
            Command::Generate(command) => command.run(&Self::command()),
            #[cfg(not(feature = "agent"))]
            Command::Other(words) => Err(not_in_this_build(&words).into()),
        }
    }

    /// Whether the process serves until it is ended: a closed standard output does not end it.
    pub fn serves(&self) -> bool {
        match &self.command {
            #[cfg(feature = "agent")]
            Command::Agent(AgentCommand::Run(_)) => true,
            #[cfg(feature = "agent")]
            Command::Agent(AgentCommand::Fleet(fleet)) => fleet.serves(),
            #[cfg(feature = "tunnel")]
            Command::Tunnel(_) => true,
            _ => false,
        }
    }
}

/// Why a command is none of the policy tools'.
#[cfg(not(feature = "agent"))]
fn not_in_this_build(words: &[String]) -> crate::exit::Usage {
    let name = words.first().map(String::as_str).unwrap_or_default();
    crate::exit::Usage(format!(
        "'{name}' is none of the policy tools, and this build has no others: commands of the agent are in one with \
         the feature `agent`; see --help"
    ))
}

#[cfg(feature = "agent")]
impl AgentCommand {
    fn run(self, global: &Global) -> anyhow::Result<Answer> {
        match self {
            Self::Init(command) => command.run(global),
            Self::Run(command) => command.run(global),
            Self::Status(command) => command.run(global),
            Self::Watch(command) => command.run(global),
            Self::Flows(command) => command.run(global),
            Self::Apply(command) => command.run(global),
            Self::Confirm(command) => command.run(global),
            Self::Rollback(command) => command.run(global),
            Self::History(command) => command.run(global),
            Self::Drift(command) => command.run(global),
            Self::Suggest(command) => command.run(global),
            Self::Review(command) => command.run(global),
            Self::Stage(command) => command.run(global),
            Self::Unstage(command) => command.run(global),
            Self::Promote(command) => command.run(global),
            Self::Quarantine(command) => command.run(global),
            Self::Release(command) => command.run(global),
            Self::Grant(command) => command.run(global),
            Self::Grants(command) => command.run(global),
            Self::Revoke(command) => command.run(global),
            Self::Sources(command) => command.run(global),
            Self::Fleet(command) => command.run(global),
            Self::Attach(command) => command.run(global),
            Self::Detach(command) => command.run(global),
            Self::Guard(command) => command.run(global),
            Self::Doctor(command) => command.run(global),
            Self::Exposed(command) => command.run(global),
            Self::Tls(command) => command.run(global),
            Self::Audit(command) => command.run(global),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    /// Columns of a terminal.
    const WIDTH: usize = 80;

    /// A command and those below it.
    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
    }

    #[test]
    fn every_summary_is_one_line_of_a_terminal() {
        let mut cli = Cli::command();
        cli.build();
        for command in all(&cli) {
            let name = command.get_name();
            // A line of the command list is two spaces, the longest name, two spaces and the summary.
            let names = command.get_subcommands().map(|below| below.get_name().len()).max().unwrap_or(0);
            for below in command.get_subcommands() {
                let summary = below.get_about().map(ToString::to_string).unwrap_or_default();
                assert!(!summary.is_empty() && !summary.contains('\n'), "{name} {}", below.get_name());
                let width = names + 4 + summary.chars().count();
                assert!(width <= WIDTH, "{name} {}: {width} columns: {summary}", below.get_name());
            }
            for option in command.get_arguments() {
                // An option's is indented by ten.
                let summary = option.get_help().map(ToString::to_string).unwrap_or_default();
                let width = summary.chars().count() + 10;
                assert!(!summary.is_empty() && width <= WIDTH, "{name} {}: {summary}", option.get_id());
            }
            for help in [command.clone().render_help(), command.clone().render_long_help()] {
                let lines = help.to_string();
                let long =
                    lines.lines().find(|line| line.chars().count() > WIDTH && !line.starts_with("Usage"));
                assert_eq!(long, None, "{name}");
            }
        }
    }

    /// `Check a policy`, not `Checks a policy`.
    #[test]
    fn every_summary_says_what_to_do() {
        let mut cli = Cli::command();
        cli.build();
        for command in all(&cli).into_iter().filter(|command| command.get_name() != "bulkhead") {
            let summary = command.get_about().map(ToString::to_string).unwrap_or_default();
            let first = summary.split([' ', ':']).next().unwrap_or_default().to_lowercase();
            let is_verb = !first.ends_with('s') || matches!(first.as_str(), "process");
            assert!(is_verb, "{}: {summary}", command.get_name());
        }
    }
}
