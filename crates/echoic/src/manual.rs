//! `echoic completions` and `echoic man`: generated from the definition of the command line.

use std::io;

use clap::CommandFactory;
use clap_complete::generate;

use crate::{
    cli::{Cli, CompletionsArgs, ManArgs},
    exit::{CliError, CommandResult, Exit},
    term::{self, Payload},
};

/// Prints a completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> CommandResult {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "echoic", &mut script);
    print(&script)
}

/// Prints the manual page of the program, or writes pages for it and each command into a folder.
pub(crate) fn man(args: &ManArgs) -> CommandResult {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(CliError::system)?;
        return print(&page);
    };
    let written = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    written().map_err(|error| {
        CliError::system(format!(
            "cannot write the pages to {}: {error}; expected a writable folder",
            dir.display()
        ))
    })?;
    Ok(Exit::Done)
}

fn print(text: &[u8]) -> CommandResult {
    let mut payload = Payload::new(false);
    let text = String::from_utf8_lossy(text);
    let printed = payload.line(format_args!("{}", text.trim_end()));
    term::done(printed.and_then(|()| payload.flush()))
}
