//! `contrail-lb run`: the daemon, in the foreground.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use super::Exit;
use crate::{app, logging};

/// Threads for checks, BGP and administration; the data plane has its own.
const CONTROL_THREADS: usize = 2;

#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Stop when the process that started this one ends.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

pub fn run(arguments: &RunArguments) -> Exit {
    if arguments.end_with_parent {
        // Fails for no valid signal.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT));
    }
    let loaded = match config::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let _ = write!(std::io::stderr(), "{}", problems.render(false));
            return Exit::BadConfiguration;
        }
    };
    let logs = logging::init(&loaded.config.global.log);
    for warning in loaded.warnings.iter() {
        tracing::warn!(key = warning.key, line = warning.line, "{}", warning.message);
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(app::run(arguments.config.clone(), loaded.config, &logs)));
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::System
        }
    }
}
