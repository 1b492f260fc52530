//! `contrail-lb why`: the chain of events behind the newest change of a VIP, backend, service or peer.

use std::io::Write;
use std::path::PathBuf;

use super::{DEFAULT_SOCKET, Exit, client};
use crate::control::events::ChainView;

#[derive(Debug, clap::Args)]
pub struct WhyArguments {
    /// A VIP, `SERVICE/BACKEND`, a service or a BGP peer.
    subject: String,
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

pub fn why(arguments: &WhyArguments) -> Exit {
    let subject = &arguments.subject;
    // One word of a command: what could be another is refused here.
    if subject.is_empty() || subject.contains(|c: char| c.is_whitespace() || matches!(c, ';' | '#')) {
        eprintln!("contrail-lb: no VIP, SERVICE/BACKEND, service or peer is called {subject:?}");
        return Exit::Usage;
    }
    let reply = match client::ask(&arguments.socket, &format!("show why {subject} json")) {
        Ok(reply) => reply,
        Err(exit) => return exit,
    };
    let chain = match serde_json::from_str::<Option<ChainView>>(&reply) {
        Ok(chain) => chain,
        Err(error) => {
            eprintln!(
                "contrail-lb: the daemon answered something that is no chain of events ({error}): {reply}"
            );
            return Exit::Unavailable;
        }
    };
    let Some(chain) = chain else {
        eprintln!(
            "contrail-lb: nothing about {subject} is remembered; `contrail-lb status` names what there is"
        );
        return Exit::Usage;
    };
    let text = if arguments.json { reply } else { chain.text() };
    // The reader may have gone away (`| head`): not our failure.
    let _ = write!(std::io::stdout(), "{text}");
    Exit::Done
}
