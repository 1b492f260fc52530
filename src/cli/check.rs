//! `contrail-lb check`: every problem of a file at once, or its long form.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use super::Exit;

#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print the configuration in its long form, every default filled in.
    #[arg(long)]
    expand: bool,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

pub fn check(arguments: &CheckArguments) -> Exit {
    let (problems, loaded) = match config::load(&arguments.config) {
        Ok(loaded) => (loaded.warnings, Some(loaded.config)),
        Err(problems) => (problems, None),
    };
    let mut out = std::io::stdout().lock();
    // A reader that went away is no reason to change the verdict, which is the exit code.
    if arguments.json {
        let expanded = loaded.as_ref().filter(|_| arguments.expand).map(config::expand);
        let mut report = problems.to_json();
        report["ok"] = loaded.is_some().into();
        report["file"] = arguments.config.display().to_string().into();
        report["expanded"] = expanded.into();
        let _ = writeln!(out, "{report:#}");
    } else {
        if !problems.is_empty() {
            let color = std::io::stderr().is_terminal();
            let _ = writeln!(std::io::stderr(), "{}", problems.render(color).trim_end());
        }
        match &loaded {
            Some(config) if arguments.expand => {
                let _ = write!(out, "{}", config::expand(config));
            }
            Some(config) => {
                let _ = writeln!(out, "{}: ok: {}", arguments.config.display(), summary(config));
            }
            None => {}
        }
    }
    if loaded.is_some() { Exit::Done } else { Exit::BadConfiguration }
}

/// One line on what the file configures, so that a wrong file is noticed even when it is valid.
fn summary(config: &config::Config) -> String {
    let backends: usize = config.services.iter().map(|s| s.backends.len()).sum();
    let peers = config.bgp.as_ref().map_or(0, |b| b.peers.len());
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    [
        count(config.vips.len(), "VIP", "VIPs"),
        count(config.services.len(), "service", "services"),
        count(backends, "backend", "backends"),
        count(peers, "BGP peer", "BGP peers"),
    ]
    .join(", ")
}
