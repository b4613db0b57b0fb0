//! echoic: a socket server that answers and records, and the client that goes with it.
//!
//! Only this crate depends on all others, and only it reads a command line, prints, handles signals and ends the process.

mod bench;
mod cli;
mod connect;
mod exit;
mod explain;
mod file_size;
mod limits;
mod log;
mod manual;
mod pretty;
mod probe;
mod serve;
mod signals;
mod stdin;
mod store_url;
mod term;
mod trace;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Verb},
    exit::CliError,
};

fn main() -> ExitCode {
    file_size::report_limit_as_error();
    let cli = Cli::read();
    trace::start();
    let result = match cli.verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::Connect(args) => connect::run(&args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Log(args) => log::run(&args),
        Verb::Limits(args) => limits::run(&args),
        Verb::Completions(args) => manual::completions(&args),
        Verb::Man(args) => manual::man(&args),
    };
    trace::end();
    match result {
        Ok(exit) => exit.into(),
        Err(CliError { exit, why }) => {
            term::note(&format!("echoic: {why}"));
            exit.into()
        }
    }
}
