//! The binary: hand the arguments to the command line and return its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    contrail_lb::cli::main(std::env::args_os())
}
