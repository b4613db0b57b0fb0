//! The option `--health`.

use clap::Args;

use crate::health::HealthAddress;

/// The option of the processes that may be watched.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct HealthOptions {
    /// Serve /livez, /readyz and /metrics here, to anybody and without recorded data: PORT (this machine only), IP:PORT, or
    /// '*:PORT' (every interface); port 0 picks one, which is printed
    #[arg(
        long,
        value_name = "ADDR|off",
        env = "ECHOIC_HEALTH",
        hide_env_values = true
    )]
    pub(crate) health: Option<HealthAddress>,
}
