//! `echoic connect`: a client, interactive at a prompt or through a pipe.

mod args;
mod command;
mod deferred;
mod ending_signals;
mod expect;
mod file;
mod history;
mod input;
mod message;
mod output;
mod piped;
mod print_gate;
mod prompt;
mod reader;
mod record;
mod screen;
mod send_args;
mod session;
mod tls_args;
mod transcript;
mod unanswered;
mod verdict;

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use echoic_core::{
    endpoint::{Endpoint, Host},
    escape,
    event::Address,
};
use echoic_wire::{ClientLayer, DialOptions, Dialled, TlsClient, dial};
use tokio::runtime;

pub(crate) use args::{ConnectArgs, framing_ignored};
pub(crate) use message::encode as encode_message;
pub(crate) use send_args::SendArgs;
pub(crate) use tls_args::{StartTlsArgs, TlsArgs, TlsClientArgs, tls_only};

use self::{
    args::Plan,
    ending_signals::EndingSignals,
    piped::{LocalError, PipedResult},
    record::{Record, Unwritten},
    screen::{Screen, duration},
    session::PromptResult,
};
use crate::{
    exit::{CliError, CommandResult, Exit},
    explain, term,
};

/// Connects, exchanges data and returns the exit code. If standard input and output are terminals and no option supplies
/// the input, it opens a prompt; otherwise it copies bytes as in a pipe.
pub(crate) fn run(args: &ConnectArgs) -> CommandResult {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let prompt = interactive && !args.has_input();
    let plan = args.plan(prompt).map_err(CliError::usage)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::system(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        if !prompt {
            return connect(&plan, None).await;
        }
        let signals = EndingSignals::hold().map_err(CliError::system)?;
        connect(&plan, Some(&signals)).await
    })
}

/// Connects and talks, at a prompt if there are `signals`.
async fn connect(plan: &Plan, signals: Option<&EndingSignals>) -> CommandResult {
    let prompt = signals.is_some();
    let screen = Screen::new();
    let explain = plan.explain.then(|| {
        if prompt {
            let screen = screen.clone();
            explain::through(move |line| screen.print(line))
        } else {
            explain::on_stderr()
        }
    });
    let tls = tls_args::layer(&plan.endpoint, plan.tls.as_ref())?.map(Arc::new);
    let layer = tls.clone().map(|tls| tls as Arc<dyn ClientLayer>);
    let options = DialOptions {
        timeout: plan.connect_within,
        handshake_timeout: plan.connect_within,
        layers: plan.before_tls.iter().cloned().chain(layer).collect(),
        broadcast: plan.broadcast,
        explain,
    };
    let unwritten = plan.store.as_ref().map(Unwritten::open).transpose()?;
    let dialled = match signals {
        None => dial(&plan.endpoint, &options).await,
        Some(signals) => tokio::select! {
            dialled = dial(&plan.endpoint, &options) => dialled,
            signal = signals.next() => return signals.end_by(signal),
        },
    };
    let dialled = match (dialled, unwritten) {
        (Ok(dialled), unwritten) => (dialled, unwritten),
        (Err(error), unwritten) => {
            if let Some(unwritten) = unwritten {
                unwritten.discard().await;
            }
            return Err(error.into());
        }
    };
    let (dialled, unwritten) = dialled;
    let record = match unwritten {
        Some(unwritten) => {
            let begun = unwritten.begin(&plan.endpoint, plan.frames, &dialled);
            Some(begun.await?)
        }
        None => None,
    };
    if plan.verbose {
        term::note(&connected(&plan.endpoint, &dialled));
    }
    if let Some(report) = tls.as_deref().and_then(TlsClient::report) {
        if plan.verbose {
            term::note(&tls_args::summary(&report));
        }
        tls_args::warn(&report, !prompt && !plan.hold && !plan.send_only);
    }
    match signals {
        Some(signals) => at_a_prompt(plan, dialled, record, &screen, signals).await,
        None => through_a_pipe(plan, dialled, record).await,
    }
}

async fn at_a_prompt(
    plan: &Plan,
    dialled: Dialled,
    record: Option<Record>,
    screen: &Screen,
    signals: &EndingSignals,
) -> CommandResult {
    let quit = if plan.q_quits { "q quits" } else { ":q quits" };
    let mode = if plan.datagrams {
        "a line is a datagram".to_owned()
    } else {
        format!("{} mode", plan.frames)
    };
    term::note(&format!(
        "{mode} · {quit} · Ctrl-D ends the input · :help lists the commands"
    ));
    let watch = Record::watch(record.as_ref());
    let PromptResult {
        conversation,
        interrupted,
        signal,
        summary,
    } = session::run(plan, dialled.link, watch, screen, signals)
        .await
        .map_err(|error| {
            CliError::system(format!("cannot open a prompt on this terminal: {error}"))
        })?;
    term::note(&summary);
    if let Some(record) = record {
        record.end(&conversation).await;
    }
    if let Some(signal) = signal {
        return signals.end_by(signal);
    }
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    verdict::of_prompt(&conversation, &plan.timeouts)
}

async fn through_a_pipe(plan: &Plan, dialled: Dialled, record: Option<Record>) -> CommandResult {
    let watch = Record::watch(record.as_ref());
    let stop = Record::asked_to_stop(record.as_ref()).map_err(CliError::system)?;
    let PipedResult {
        conversation,
        local_error,
        met,
        interrupted,
        input_left,
    } = piped::piped(dialled.link, plan, watch, stop).await;
    if let Some(record) = record {
        record.end(&conversation).await;
    }
    if plan.verbose {
        let counts = &conversation.counts;
        term::note(&format!(
            "{}: {} B sent, {} B received, {}",
            verdict::ending(&conversation, plan),
            counts.sent.bytes,
            counts.received.bytes,
            duration(conversation.elapsed)
        ));
    }
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    match local_error {
        Some(LocalError::Input(error)) => Err(CliError::system(format!(
            "cannot read standard input: {error}"
        ))),
        Some(LocalError::Output(error)) => Err(CliError::system(format!(
            "cannot write standard output: {error}"
        ))),
        None => verdict::of_pipe(&conversation, plan, met, input_left),
    }
}

/// Describes the attempts: `resolved localhost → ::1, 127.0.0.1 · ::1 refused · connected … in 0.1 ms`.
fn connected(endpoint: &Endpoint, dialled: &Dialled) -> String {
    let mut steps = Vec::new();
    if let Some(at) = endpoint.host_port()
        && let Host::Name(name) = &at.host
    {
        let tried = dialled.failed.iter().map(|attempt| &attempt.address);
        let tried: Vec<_> = tried
            .chain([&dialled.peer])
            .map(|address| match address {
                Address::Net(addr) => addr.ip().to_string(),
                Address::Unix(_) => address.to_string(),
            })
            .collect();
        steps.push(format!("resolved {name} → {}", tried.join(", ")));
    }
    steps.extend(dialled.failed.iter().map(ToString::to_string));
    let peer = dialled.peer.to_string();
    let peer = escape::text(peer.as_bytes());
    steps.push(match endpoint {
        // connect(2) asks no peer then: it only sets the address.
        Endpoint::Udp(_) => format!("sending to {peer}; UDP does not tell whether anybody listens"),
        _ => format!("connected {peer} in {}", duration(dialled.took)),
    });
    steps.join(" · ")
}
