//! Measurements that are spoilt when the machine stands still for a moment, and are then made again.

use serde_json::Value;

/// Returns the first of `times` attempts that is not spoilt, or else the last: what a fault of the program spoils is spoilt
/// each time, so that the test asserts its claim on what this returns.
pub(crate) fn repeat_while<T>(
    times: u32,
    is_spoilt: impl Fn(&T) -> bool,
    mut attempt: impl FnMut() -> T,
) -> T {
    let mut made = attempt();
    for _ in 1..times {
        if !is_spoilt(&made) {
            break;
        }
        made = attempt();
    }
    made
}

/// Whether `bench` reports that it did not run itself for half a second: its verdict is then about that, whatever the
/// server did.
pub(crate) fn stood_still(report: &Value) -> bool {
    !report["generator"]["standstill"].is_null()
}

/// Returns the report of a run of `bench` that did not stand still, out of five.
pub(crate) fn undisturbed(run: impl FnMut() -> Value) -> Value {
    repeat_while(5, stood_still, run)
}
