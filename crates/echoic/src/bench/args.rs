//! What is typed after `echoic bench`, and what it means.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echoic_client::bench::{Arrivals, Expect, Length, Load, Plan, Run, Sizes, Template, Workload};
use echoic_core::{
    endpoint::{Endpoint, Host, Located, Shape},
    framing::{Frames, Framing},
    size::Span,
};

use crate::cli::seconds_or_span;

/// How much, how fast, and who was the limit
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Whom to load: 5000 or :5000 (this machine), HOST:PORT, udp://HOST:PORT, unix:PATH, unixgram:PATH
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// What one message is, as for connect; IN/OUT where what is heard and what is said differ
    #[arg(
        long,
        value_name = "F",
        default_value = "chunk",
        env = "ECHOIC_FRAME",
        hide_env = true
    )]
    frame: Frames,

    /// Say this text, always the same
    #[arg(short = 'm', long, value_name = "TEXT", help_heading = "What is said")]
    message: Option<String>,

    /// Say this, with blanks to be filled in: {seq} {conn} {now} {rand:N} {rand:N:hex} {re:REGEX}
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "message",
        help_heading = "What is said"
    )]
    template: Option<Template>,

    /// Say messages of this size, each with its number: 64, uniform:16..1k, normal:MEAN,DEVIATION, pareto:MIN,SHAPE
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["message", "template"], help_heading = "What is said")]
    size: Option<Sizes>,

    /// What all that is random comes from
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "What is said"
    )]
    seed: u64,

    /// What has to come back: upper, lower, echo, exact:TEXT, regex:RE, len:N, any, or none (not waited for)
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "any",
        help_heading = "What is said"
    )]
    expect: Expect,

    /// Connections
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Load")]
    connections: u32,

    /// Open loop: so many requests a second over all connections, due at fixed times. Without it each connection asks again when its reply has come
    #[arg(short = 'r', long, value_name = "RATE", value_parser = rate, help_heading = "Load")]
    rate: Option<f64>,

    /// How requests of an open loop are spread: constant, poisson, or burst:N
    #[arg(long, value_name = "HOW", value_parser = arrivals, default_value = "constant", requires = "rate", help_heading = "Load")]
    arrivals: Arrivals,

    /// Requests in flight on each connection at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Load")]
    pipeline: u32,

    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Load")]
    threads: u32,

    /// How long to measure; a plain number is seconds
    #[arg(short = 'd', long, value_name = "TIME", default_value = "10s", value_parser = seconds_or_span, help_heading = "Load")]
    duration: Span,

    /// Measure so many requests instead
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        conflicts_with = "duration",
        help_heading = "Load"
    )]
    count: Option<u64>,

    /// Load before that, and do not count it [default: 0 with --count, else 1s]
    #[arg(long, value_name = "TIME", value_parser = seconds_or_span, help_heading = "Load")]
    warmup: Option<Span>,

    /// Unanswered for so long is lost [default: 1s for datagrams, else 10s]
    #[arg(long, value_name = "TIME", value_parser = seconds_or_span, help_heading = "Load")]
    timeout: Option<Span>,

    /// How to print what came of it
    #[arg(
        short = 'o',
        long,
        value_name = "FORM",
        default_value = "json",
        help_heading = "Showing"
    )]
    output: Form,
}

const EXAMPLES: &str = "\
Examples:
  echoic bench :5000 --frame line -c 64 -d 10s -o json            as fast as replies come
  echoic bench :5000 --frame line -c 64 -r 20k --expect upper     20,000 a second, each reply checked

Exit codes: 0 measured, 2 usage, 3 name not resolved, 4 refused or unreachable, 5 timed out while
connecting.";

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One object.
    Json,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) run: Run,
}

impl BenchArgs {
    /// What was typed means this.
    pub(super) fn plan(&self) -> Result<Planned, String> {
        let Form::Json = self.output;
        let (endpoint, frames) = self.place()?;
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let workload = self.workload(frames);
        if !is_datagrams {
            workload
                .check(frames.said)
                .map_err(|error| error.to_string())?;
        }
        let timeout = self.timeout.map_or_else(
            || Duration::from_secs(if is_datagrams { 1 } else { 10 }),
            |timeout| timeout.0,
        );
        let warmup = match (self.warmup, self.count) {
            (Some(warmup), _) => warmup.0,
            (None, Some(_)) => Duration::ZERO,
            (None, None) => Duration::from_secs(1),
        };
        let plan = Plan {
            expect: self.expect.clone(),
            connections: self.connections,
            threads: self.threads,
            pipeline: self.pipeline,
            timeout,
            drain: timeout,
            seed: self.seed,
            ..Plan::new(endpoint, frames, workload)
        };
        let load = match self.rate {
            None => Load::Closed,
            Some(rate) => Load::Open {
                rate,
                arrivals: self.arrivals,
            },
        };
        let length = match self.count {
            Some(count) => Length::Count(count),
            None => Length::For(self.duration.0),
        };
        Ok(Planned {
            plan,
            run: Run {
                load,
                warmup,
                length,
            },
        })
    }

    fn place(&self) -> Result<(Endpoint, Frames), String> {
        let Located { endpoint, options } = self
            .endpoint
            .parse()
            .map_err(|error: echoic_core::endpoint::EndpointError| error.to_string())?;
        match &endpoint {
            Endpoint::Tcp(at) | Endpoint::Udp(at) if at.port == 0 => {
                return Err(
                    "nobody can be called at port 0; it means \"any free port\" to a server"
                        .to_owned(),
                );
            }
            Endpoint::Tcp(at) | Endpoint::Udp(at) if at.host == Host::Any => {
                return Err(
                    "* is every address of this machine, for listening; name a host to load"
                        .to_owned(),
                );
            }
            Endpoint::Fd(_) => {
                return Err(
                    "fd: is a socket handed to a server; there is nothing to call".to_owned(),
                );
            }
            _ => {}
        }
        let mut frames = self.frame;
        for (name, value) in options.0 {
            match &*name {
                "frame" => frames = value.parse().map_err(|error| format!("{error}"))?,
                _ => {
                    return Err(format!(
                        "?{name}= is no option of an endpoint to call; there is frame"
                    ));
                }
            }
        }
        Ok((endpoint, frames))
    }

    fn workload(&self, frames: Frames) -> Workload {
        let message = match (&self.message, &self.template, &self.size) {
            (Some(text), ..) => Template::literal(text.as_bytes()),
            (_, Some(template), _) => template.clone(),
            (_, _, Some(sizes)) => Template::sized(*sizes, self.seed),
            _ => match frames.said {
                Framing::Fixed(bytes) => {
                    let sizes = bytes.to_string().parse();
                    sizes.map_or_else(
                        |_| Template::literal([]),
                        |sizes| Template::sized(sizes, self.seed),
                    )
                }
                _ => "hello {seq}"
                    .parse()
                    .unwrap_or_else(|_| Template::literal("hello")),
            },
        };
        Workload::one(message)
    }
}

/// A number of requests a second: `500`, `20k`, `1.5M`, with or without `/s`. Here k is 1000.
fn rate(text: &str) -> Result<f64, String> {
    let wrong = || {
        format!("{text:?} is no rate; write requests a second, such as 500, 20k or 1.5M (k = 1000)")
    };
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, factor) = match number.as_bytes().last() {
        Some(b'k') => (&number[..number.len() - 1], 1e3),
        Some(b'M') => (&number[..number.len() - 1], 1e6),
        _ => (number, 1.0),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if (0.001..=1e8).contains(&rate) {
        Ok(rate)
    } else {
        Err(wrong())
    }
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    let wrong = || {
        format!("{text:?} is no way to spread requests; there are constant, poisson and burst:N")
    };
    match text.split_once(':') {
        None if text == "constant" => Ok(Arrivals::Constant),
        None if text == "poisson" => Ok(Arrivals::Poisson),
        Some(("burst", count)) => {
            let count = count.parse().ok().filter(|count| *count > 0);
            count.map(Arrivals::Burst).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
