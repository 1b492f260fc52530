//! `contrail-lb status`: VIPs, services and backends of the running daemon.

use super::{DaemonArguments, Exit, client};

pub fn status(arguments: &DaemonArguments) -> Exit {
    client::print(&arguments.socket, if arguments.json { "show status json" } else { "show status" })
}
