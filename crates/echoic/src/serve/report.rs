//! What `serve` reports on standard error about the record: failures of the store, and the totals at the end.

use std::time::{Duration, Instant};

use echoic_recorder::{Failure, Recorder};
use echoic_server::Drained;

use super::plan::Plan;
use crate::{exit::Exit, notify::Notifier, pretty, store_url::StoreUrl, term, trace};

/// Interval of checking the recorder's status.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// Interval of repeating that nothing is being recorded.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Reports while the store fails, and when recording resumes.
pub(super) async fn store_failures(recorder: Recorder, notifier: Notifier, quiet: bool) {
    let mut failing: Option<(Failure, Instant)> = None;
    let mut lost = 0;
    loop {
        tokio::time::sleep(STATUS_EVERY).await;
        let status = recorder.status();
        match (status.failure, failing.take()) {
            (Some(failure), Some((reported, at)))
                if failure.since == reported.since && at.elapsed() < REMIND_EVERY =>
            {
                failing = Some((failure, at));
            }
            (Some(failure), _) => {
                term::note_in_colour(&pretty::failing(&failure));
                notifier.status(&format!("not recording: {}", failure.why));
                failing = Some((failure, Instant::now()));
            }
            (None, Some((failure, _))) => {
                notifier.status("recording again");
                let lost_now = status.lost - lost;
                if !quiet || lost_now > 0 {
                    term::note(&pretty::recording_again(failure.since, lost_now));
                }
                lost = status.lost;
            }
            (None, None) => lost = status.lost,
        }
    }
}

/// Prints the totals and decides the exit code. `called` is the number of exchanges that the console has made as a client.
pub(super) fn end(
    plan: &Plan,
    recorder: &Recorder,
    drained: Drained,
    called: u64,
    unclosed: Option<String>,
) -> Exit {
    let Drained {
        served,
        cut,
        panicked,
        datagrams,
    } = drained;
    let status = recorder.status();
    let count = pretty::count;
    let mut text = format!("stopped: {} served", count(served + called, "exchange"));
    if plan.store != StoreUrl::None {
        text += &format!(", {} recorded, {} lost", status.recorded, status.lost);
    }
    let is_recorded = status.failure.is_none() && unclosed.is_none();
    let is_complete = is_recorded && status.lost == 0 && cut == 0 && panicked == 0;
    if let Some(failure) = status.failure {
        text += &format!(" ({})", pretty::failing(&failure));
    }
    if let Some(error) = unclosed {
        text += &format!(
            " (not all of it is safe on the disk: {})",
            term::sanitize(error)
        );
    }
    if cut > 0 {
        let cut = count(cut, "conversation");
        text += &format!("; {cut} cut, not done within --drain-timeout");
    }
    if datagrams.dropped > 0 {
        let dropped = count(datagrams.dropped, "datagram");
        text += &format!("; {dropped} dropped, having come too fast");
    }
    if panicked > 0 {
        let panicked = count(panicked, "conversation");
        text += &format!("; {panicked} ended by a bug in echoic");
    }
    trace::end();
    if !(plan.show.quiet && is_complete) {
        term::note_in_colour(&text);
    }
    match (is_recorded, cut) {
        (false, _) => Exit::System,
        (true, 1..) => Exit::Cut,
        (true, 0) => Exit::Done,
    }
}

/// Prints how many exchanges are not in the record of a server that was stopped at once.
pub(super) fn stopped_at_once(plan: &Plan, recorder: &Recorder) -> Exit {
    let status = recorder.status();
    let (count, missing) = (pretty::count, status.lost + status.waiting);
    let mut text = "stopped at once".to_owned();
    if plan.store != StoreUrl::None {
        let served = count(status.recorded + missing, "exchange");
        text += &format!(
            ": {served} served, {} recorded, {missing} not recorded",
            status.recorded
        );
    }
    trace::end();
    if !plan.show.quiet || missing > 0 {
        term::note(&text);
    }
    Exit::Interrupted
}
