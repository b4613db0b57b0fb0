//! The web console of a running server.

use std::sync::Arc;

use echoic_console::StoreDescription;
use echoic_core::{control::Control, store::Store};
use echoic_recorder::Recorder;

use super::plan::Plan;
use crate::{
    console::{Backing, NoConsole, OpenConsole, RunningConsole, describe, token_file},
    exit::CliError,
    limits,
};

/// Opens the socket of the console, if there is to be one.
pub(super) fn open(plan: &Plan) -> Result<Option<OpenConsole>, CliError> {
    let Some(console) = &plan.console else {
        return Ok(None);
    };
    let opened = OpenConsole::open(console, plan.show.quiet, token_file(&plan.store))?;
    Ok(opened.inspect_err(NoConsole::report).ok())
}

/// Starts to serve it, on the control plane: nothing of it runs on a worker.
pub(super) fn start(
    plan: &Plan,
    console: OpenConsole,
    store: Arc<dyn Store>,
    recorder: Recorder,
    control: Arc<dyn Control>,
) -> RunningConsole {
    let backing = Backing {
        store,
        recorder: Some(recorder),
        control: Some(control),
        description: StoreDescription {
            retention: Some(plan.retention_text.clone()),
            durability: Some(plan.durability.to_string()),
            ..describe(&plan.store)
        },
        limits: limits::in_force(
            &plan.limits,
            &plan.source_limits,
            &plan.recorder,
            &plan.retention_text,
        ),
    };
    console.serve(backing, plan.show.quiet)
}
