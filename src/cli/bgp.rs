//! `contrail-lb bgp`: the BGP sessions of the running daemon.

use super::{DaemonArguments, Exit, client};

pub fn bgp(arguments: &DaemonArguments) -> Exit {
    client::print(&arguments.socket, if arguments.json { "show bgp json" } else { "show bgp" })
}
