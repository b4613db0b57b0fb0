//! Generates the page from the rows that trials have reported, and runs the tests that prove some of them.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use trials_report::{Setting, page, proven, read};

/// Generate docs/reliability.md.
#[derive(Parser)]
#[command(name = "trials-report")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print docs/reliability.md, generated from the rows in a file
    Page {
        /// The file to which the trials appended their rows
        rows: PathBuf,
        /// Trials that failed, by name
        failed: Vec<String>,
    },
    /// Run the tests that a table names, and report each row
    Prove {
        /// The table: trials/proven.md
        table: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Page { rows, failed } => {
            let rows = read(&rows)?;
            anyhow::ensure!(!rows.is_empty(), "no trial has reported a row");
            io::stdout().write_all(page(&rows, &failed, &Setting::here()?).as_bytes())?;
        }
        Command::Prove { table } => {
            let mut failed = 0;
            for row in proven(&fs::read_to_string(table)?)? {
                let row = row.run()?;
                writeln!(io::stderr(), "row {}: {}", row.row, row.observed)?;
                row.report()?;
                failed += u32::from(!row.pass);
            }
            anyhow::ensure!(failed == 0, "{failed} rows are not proven");
        }
    }
    Ok(())
}
