//! echoic: a socket server that answers and records, and the client that goes with it.
//!
//! Only this crate depends on all others, and only it reads a command line, prints, handles signals and ends the process.

mod bench;
mod certificates;
mod cli;
mod client_record;
mod connect;
mod console;
mod exit;
mod explain;
mod file_size;
mod health;
mod keeper;
mod limits;
mod local_time;
mod log;
mod manual;
mod notify;
mod on;
mod password;
mod presence;
mod pretty;
mod probe;
mod runtime_directory;
mod serve;
mod service_choice;
mod signals;
mod status;
mod status_line;
mod stdio;
mod stdout_reader;
mod store_url;
mod term;
mod trace;
mod work;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Verb},
    exit::{CliError, CommandResult},
};

fn main() -> ExitCode {
    file_size::report_limit_as_error();
    let result = Cli::read().map_or_else(|printed| printed, run);
    match result {
        Ok(exit) => exit.into(),
        Err(CliError { exit, why }) => {
            term::note(&term::without_logins(&format!("echoic: {why}")));
            exit.into()
        }
    }
}

fn run(cli: Cli) -> CommandResult {
    trace::start();
    let result = match cli.verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::Connect(args) => connect::run(&args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Log(args) => log::run(&args),
        Verb::Console(args) => console::run(&args),
        Verb::Work(args) => work::run(&args),
        Verb::Keeper(args) => keeper::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Limits(args) => limits::run(&args),
        Verb::Completions(args) => manual::completions(&args),
        Verb::Man(args) => manual::man(&args),
    };
    trace::end();
    result.map_err(|error| cli.from_file.locate_options(error))
}
