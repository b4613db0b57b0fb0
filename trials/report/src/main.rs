//! Prints the page made of the rows that trials have told to a file.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Parser;
use trials_report::{Setting, page, read};

/// Prints docs/reliability.md, made of the rows that trials have told.
#[derive(Parser)]
#[command(name = "trials-report")]
struct Cli {
    /// The file to which the trials told their rows
    rows: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let rows = read(&Cli::parse().rows)?;
    anyhow::ensure!(!rows.is_empty(), "no trial has told anything");
    io::stdout().write_all(page(&rows, &Setting::here()?).as_bytes())?;
    Ok(())
}
