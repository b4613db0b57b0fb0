//! The command line of `echoic work`.

use clap::Args;
use echoic_nats::NatsUrl;
use echoic_service::NamedService;

use super::health::HealthOptions;
use crate::service_choice::parse_subject;

/// Answer for servers elsewhere: a service as a process of its own
#[derive(Debug, Args)]
#[command(after_help = "\
A worker answers what `echoic serve --as nats://HOST:PORT/SUBJECT` receives. Any
number of workers may serve a subject: NATS gives each run of messages to one of
them, and to another one if it dies. The order of each conversation is kept.
chargen cannot run in a worker.

In a URL of NATS, USER:PASSWORD@ or TOKEN@ may stand before the host; it is
never printed. ECHOIC_ON keeps it out of the list of processes.

Examples:
  echoic work upper --on nats://127.0.0.1:4222/upper
  echoic work greet:hello --on nats://127.0.0.1:4222/greet
  echoic work echo --on nats://nats.example:4222/echo --quiet
  echoic work upper --on nats://127.0.0.1:4222/upper --health :8010

Stop it with Ctrl-C: it answers what it has received, then leaves.")]
pub(crate) struct WorkArgs {
    /// Answer with this service (see `echoic serve --help`)
    #[arg(value_name = "SERVICE")]
    pub(crate) service: NamedService,

    /// Answer at this subject: nats://HOST:PORT/SUBJECT
    #[arg(long, value_name = "URL", env = "ECHOIC_ON", hide_env_values = true, value_parser = parse_subject)]
    pub(crate) on: NatsUrl,

    #[command(flatten)]
    pub(crate) health: HealthOptions,

    /// Print failures only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}
