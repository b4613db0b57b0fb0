//! `scripts/crash`: simulates crashes of echoic at every moment, in all ways, and checks what remains.

#![allow(clippy::print_stdout, reason = "this program is its report")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use trials_crash::{
    control,
    round::{self, Found},
    sweep::Scope,
};

/// Crash echoic at every moment, in all ways, and check what remains of its record.
#[derive(Parser)]
#[command(name = "crash")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Run all durabilities, and the controls
    Round {
        /// States to open, in total
        #[arg(default_value_t = 10_000)]
        states: usize,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Path of the program
        #[arg(long)]
        echoic: PathBuf,
        /// Copy states that are not sound to this folder
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Run the control alone: record with a level of SQLite's `synchronous`, and report each commit
    Control {
        folder: PathBuf,
        level: String,
        commits: u64,
    },
}

fn main() -> Result<()> {
    match Cli::parse().part {
        Part::Control {
            folder,
            level,
            commits,
        } => control::write(&folder, &level, commits),
        Part::Round {
            states,
            seed,
            echoic,
            save,
        } => {
            println!("seed {seed}; the same again: scripts/crash {states} --seed {seed}");
            let scope = Scope {
                states,
                seed,
                lies: false,
                save,
            };
            let found = round::all(&echoic, &std::env::current_exe()?, &scope, |found| {
                println!("{found}");
            })?;
            let states: usize = found.iter().map(|found| found.sums.states()).sum();
            let failed: Vec<_> = found.iter().filter_map(Found::failure).collect();
            println!(
                "{states} states; {}",
                if failed.is_empty() {
                    "all as promised"
                } else {
                    "NOT as promised"
                }
            );
            ensure!(failed.is_empty(), "{}", failed.join("\n"));
            Ok(())
        }
    }
}
