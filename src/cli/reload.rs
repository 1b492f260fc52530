//! `contrail-lb reload`: apply the changed file, and say what changed or why nothing did.

use std::io::Write;

use super::{DaemonArguments, Exit, client};

pub fn reload(arguments: &DaemonArguments) -> Exit {
    let reply = match client::ask(&arguments.socket, "reload json") {
        Ok(reply) => reply,
        Err(exit) => return exit,
    };
    let Ok(outcome) = serde_json::from_str::<serde_json::Value>(&reply) else {
        eprintln!("contrail-lb: the daemon answered something that is no reload report: {reply}");
        return Exit::Unavailable;
    };
    let ok = outcome["ok"].as_bool().unwrap_or(false);
    if arguments.json {
        let _ = writeln!(std::io::stdout(), "{}", reply.trim_end());
    } else {
        let text = outcome["text"].as_str().unwrap_or_default();
        let _ = if ok {
            writeln!(std::io::stdout(), "{}", text.trim_end())
        } else {
            writeln!(std::io::stderr(), "{}", text.trim_end())
        };
    }
    if ok { Exit::Done } else { Exit::BadConfiguration }
}
