//! `scripts/crash`: crashes echoic at every moment, in all ways, and looks at what is left.

#![allow(clippy::print_stdout, reason = "this program is its report")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use trials_crash::{
    control,
    round::{self, Found},
    sweep::Scope,
};

/// Crashes echoic at every moment, in all ways, and looks at what is left of its record.
#[derive(Parser)]
#[command(name = "crash")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// The whole round: every durability, and the controls
    Round {
        /// States to open, all together
        #[arg(default_value_t = 10_000)]
        states: usize,
        /// What chance is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The program
        #[arg(long)]
        echoic: PathBuf,
        /// Leave states that are not sound in this folder
        #[arg(long)]
        keep: Option<PathBuf>,
    },
    /// The control alone: records with a level of SQLite's `synchronous`, and says when each exchange is kept
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
            keep,
        } => {
            println!("seed {seed}; the same again: scripts/crash {states} --seed {seed}");
            let scope = Scope {
                states,
                seed,
                lies: false,
                keep,
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
