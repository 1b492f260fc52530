//! The command line: one file per verb. Parses arguments, picks the verb, turns its result into an exit code.
//!
//! Exit codes follow sysexits.h: 0 done, 64 usage, 69 daemon not reachable, 70 internal, 71 system, 78 bad configuration.

mod bgp;
mod check;
mod client;
mod drain;
mod events;
mod generate;
mod reload;
mod run;
mod status;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/contrail-lb/contrail-lb.toml";
/// Where a running daemon is reached unless `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/contrail-lb/admin.sock";

/// Layer-4 load balancer with health checks and an embedded BGP speaker that announces its VIP only while it can serve.
#[derive(Debug, Parser)]
#[command(name = "contrail-lb", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the load balancer in the foreground.
    Run(run::RunArguments),
    /// Check a configuration file: every problem at once, exit code 78 if there is one.
    Check(check::CheckArguments),
    /// Try it: mock services, the real load balancer and a router that learns the VIP, without root.
    Demo,
    /// Show VIPs, services and backends of the running daemon.
    Status(DaemonArguments),
    /// Show the BGP sessions of the running daemon.
    Bgp(DaemonArguments),
    /// Show what happened, oldest first; with --follow whatever happens next.
    Events(events::EventsArguments),
    /// Tell the chain of events behind the newest change of a VIP, backend, service or peer.
    Why(why::WhyArguments),
    /// Take this host out: its VIPs are withdrawn in order, without a failed request.
    Drain(drain::DrainArguments),
    /// Put this host back after a drain.
    Undrain(DaemonArguments),
    /// Stop holding back a VIP that came and went too often.
    Release(drain::ReleaseArguments),
    /// Apply the changed configuration file; a wrong one changes nothing.
    Reload(DaemonArguments),
    /// Print shell completions.
    Completions(generate::CompletionsArguments),
    /// Print the manual page (roff).
    #[command(hide = true)]
    Man,
    /// Print the version.
    Version,
}

/// What every verb that talks to the running daemon takes.
#[derive(Debug, clap::Args)]
struct DaemonArguments {
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

/// How a verb ended, as sysexits.h numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    Usage,
    Unavailable,
    Internal,
    System,
    BadConfiguration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::System => 71,
            Exit::BadConfiguration => 78,
        })
    }
}

/// Runs the verb that `arguments` (program name first) names.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // A closed pipe is the only way this fails, and then nobody reads the text anyway.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match parsed.verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Check(arguments) => check::check(&arguments),
        Verb::Demo => crate::demo::demo(),
        Verb::Status(arguments) => status::status(&arguments),
        Verb::Bgp(arguments) => bgp::bgp(&arguments),
        Verb::Events(arguments) => events::events(&arguments),
        Verb::Why(arguments) => why::why(&arguments),
        Verb::Drain(arguments) => drain::drain(&arguments),
        Verb::Undrain(arguments) => drain::undrain(&arguments),
        Verb::Release(arguments) => drain::release(&arguments),
        Verb::Reload(arguments) => reload::reload(&arguments),
        Verb::Completions(arguments) => generate::completions(&arguments),
        Verb::Man => generate::man(),
        Verb::Version => generate::version(),
    }
    .into()
}

/// The whole command-line grammar, for completions and the manual page.
fn grammar() -> clap::Command {
    Arguments::command()
}
