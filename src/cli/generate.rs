//! What is generated from the command-line grammar: completions, manual page, version.

use std::io::{self, Write};

use super::Exit;

#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// The shell to write completions for.
    shell: clap_complete::Shell,
}

pub fn completions(arguments: &CompletionsArguments) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::grammar(), "contrail-lb", &mut script);
    print(&script)
}

pub fn man() -> Exit {
    let mut page = Vec::new();
    match clap_mangen::Man::new(super::grammar()).render(&mut page) {
        Ok(()) => print(&page),
        Err(_) => Exit::Internal,
    }
}

pub fn version() -> Exit {
    print(format!("contrail-lb {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

fn print(bytes: &[u8]) -> Exit {
    match io::stdout().write_all(bytes) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::System,
    }
}
