//! The options of the web console, and the command line of `echoic console`.

use clap::Args;

use super::health::HealthOptions;
use crate::{console::ConsoleChoice, on::On, store_url::StoreUrl};

/// Options of the console, for `serve` and `console`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Console")]
pub(crate) struct ConsoleOptions {
    /// Serve the web console here, and print its URL; beyond loopback with `?cert=FILE&key=FILE` and `ECHOIC_PASSWORD` [default:
    /// 127.0.0.1:8007, or the next free port]
    #[arg(
        long,
        value_name = "ADDR|off",
        env = "ECHOIC_CONSOLE",
        hide_env_values = true
    )]
    pub(crate) console: Option<ConsoleChoice>,

    /// Open the console in the browser
    #[arg(long)]
    pub(crate) open: bool,

    /// Let the console only read: it sends, closes, pauses and tags nothing
    #[arg(long)]
    pub(crate) console_readonly: bool,
}

/// Serve the web console of a record, beside a running serve or without one
#[derive(Debug, Args)]
#[command(after_help = "\
The console of a serve is that of serve itself. This one is a process of its
own: it reads the record, follows it while a serve writes it, and adds tags and
notes. It runs no server, so it sends, closes and pauses nothing. With --on it
does so at servers elsewhere that were started with the same --on; whoever may
publish at that NATS server can do the same. --console-readonly
allows reading only.

The URL has a token, without which nothing is shown. ECHOIC_TOKEN sets it (16
characters or more); else each start has a new one. It is printed on a terminal,
and with --console ADDR; else it is written to a file for you alone, which is
named. With ECHOIC_PASSWORD (8 characters or more) the page asks for that
instead, and no URL has a secret. Beyond loopback the console needs it, and a
certificate: --console '*:8007?cert=chain.pem&key=key.pem'.

Examples:
  echoic console                         of echoic.db
  echoic console --store talk.db --open  show talk.db in the browser
  echoic console --console 127.0.0.1:0   at any free port
  echoic console --store postgres://db/echoic --on nats://nats.example:4222
                                         with control of servers elsewhere

Stop it with Ctrl-C.")]
pub(crate) struct ConsoleArgs {
    /// Show this database of echoic serve: a file, or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    pub(crate) store: StoreUrl,

    /// Show and control the servers that have the same --on: nats://HOST:PORT
    #[arg(long, value_name = "URL", env = "ECHOIC_ON", hide_env_values = true)]
    pub(crate) on: Option<On>,

    #[command(flatten)]
    pub(crate) health: HealthOptions,

    /// Print failures only, and the URL with --console ADDR
    #[arg(long, short)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) console: ConsoleOptions,
}
