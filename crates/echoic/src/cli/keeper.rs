//! The command line of `echoic keep`.

use clap::Args;
use echoic_core::store::Durability;
use echoic_nats::NatsUrl;

use super::{health::HealthOptions, serve::RetentionArg};
use crate::store_url::StoreUrl;

/// Write what servers record elsewhere: a store as a process of its own
#[derive(Debug, Args)]
#[command(after_help = "\
A keeper writes what `echoic serve --store nats://HOST:PORT/STREAM` records.
Each batch is written once: JetStream holds it until it is committed, and gives
it to another keeper if this one dies. Any number of keepers may share a stream
if they write to PostgreSQL; an SQLite file has one. JetStream must be on
(`nats-server --jetstream`); whoever comes first creates the stream. Read the
record with `echoic log --store STORE`, also meanwhile.

In a URL of NATS, USER:PASSWORD@ or TOKEN@ may stand before the host; it is
never printed. ECHOIC_FROM keeps it out of the list of processes.

Examples:
  echoic keep --from nats://127.0.0.1:4222/record
  echoic keep --from nats://127.0.0.1:4222/record --store talk.db
  echoic keep --from nats://127.0.0.1:4222/record --store postgres://db/echoic
  echoic keep --from nats://127.0.0.1:4222/record --retention 30d,20G
  echoic keep --from nats://127.0.0.1:4222/record --health :8011

Stop it with Ctrl-C: it writes what it has received; the rest stays in the
stream.")]
pub(crate) struct KeeperArgs {
    /// Receive from this stream: nats://HOST:PORT/STREAM
    #[arg(long, value_name = "URL", env = "ECHOIC_FROM", hide_env_values = true)]
    pub(crate) from: NatsUrl,

    /// Write to this store: an SQLite file, or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        value_name = "STORE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    pub(crate) store: StoreUrl,

    /// strict: on disk before it is acknowledged. normal: on disk within 1 s. off: leave writing to the system
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "normal",
        env = "ECHOIC_DURABILITY",
        hide_env_values = true
    )]
    pub(crate) durability: Durability,

    /// Delete exchanges beyond this age, this size, or both; off deletes nothing
    #[arg(
        long,
        value_name = "AGE,SIZE|off",
        default_value = "7d,2G",
        value_parser = RetentionArg::read,
        env = "ECHOIC_RETENTION",
        hide_env_values = true
    )]
    pub(crate) retention: RetentionArg,

    #[command(flatten)]
    pub(crate) health: HealthOptions,

    /// Print failures only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}
