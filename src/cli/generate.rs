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
    match manual() {
        Ok(page) => print(&page),
        Err(_) => Exit::Internal,
    }
}

/// contrail-lb(8): every verb with its options on one page, then what clap knows nothing of.
fn manual() -> io::Result<Vec<u8>> {
    let mut grammar = super::grammar();
    grammar.build();
    let man = clap_mangen::Man::new(grammar.clone()).section("8");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    writeln!(page, ".SH VERBS")?;
    for verb in grammar.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        writeln!(page, ".SS contrail\\-lb {}", verb.get_name())?;
        writeln!(page, "{}", verb.get_about().map(ToString::to_string).unwrap_or_default())?;
        for option in verb.get_arguments().filter(|o| !o.is_hide_set() && o.get_id() != "help") {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(page, ".TP\n\\fB{}\\fR\n{help}", option.to_string().replace('-', "\\-"))?;
        }
    }
    page.write_all(MORE.as_bytes())?;
    Ok(page)
}

const MORE: &str = r#".SH SIGNALS
.TP
\fBSIGHUP\fR
Reload the configuration file: a wrong one changes nothing, a good one touches only what differs.
.TP
\fBSIGTERM\fR
Planned stop: withdraw the VIPs, wait until the routers have it and traffic ends, close, remove the addresses.
.TP
\fBSIGINT\fR, a second \fBSIGTERM\fR
Stop now, routes first.
.SH EXIT STATUS
0 done, 64 usage, 69 daemon not reachable, 70 internal error, 71 the system refused, 78 bad configuration.
.SH FILES
.TP
\fI/etc/contrail\-lb/contrail\-lb.toml\fR
The configuration; docs/configuration.md has every key.
.TP
\fI/run/contrail\-lb/admin.sock\fR
The runtime socket: a command a line; \fBhelp\fR lists them.
"#;

pub fn version() -> Exit {
    print(format!("contrail-lb {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

fn print(bytes: &[u8]) -> Exit {
    match io::stdout().write_all(bytes) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::System,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_page_in_docs_is_the_one_the_grammar_gives() {
        let fresh = String::from_utf8(super::manual().unwrap()).unwrap();
        assert_eq!(fresh, include_str!("../../docs/contrail-lb.8"), "run `make man`");
    }
}
