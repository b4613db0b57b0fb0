//! Power loss and kill -9 at every moment: row 20.

use std::path::Path;

use trials_crash::{
    disk::Crash,
    round::{self, Found, Promise},
    sweep::Scope,
};
use trials_report::{Row, Scale, program};

/// Seed of the random choices; with this and the number of states, `scripts/crash` reproduces the run.
const SEED: u64 = 1;

#[test]
fn crash_at_any_moment_keeps_the_durability_promise() {
    let scale = Scale::asked();
    let scope = Scope {
        states: scale.pick(400, 10_000),
        seed: SEED,
        lies: false,
        save: None,
    };
    let myself = Path::new(env!("CARGO_BIN_EXE_crash"));
    let found = round::all(&program("echoic"), myself, &scope, |found| {
        println!("{found}");
    })
    .unwrap();
    let controls: Vec<String> = found
        .iter()
        .filter(|found| found.promise == Promise::Breaks)
        .map(|found| {
            let torn = found.sums.of(Crash::PowerTorn);
            let name = found.name.trim_start_matches("control: ");
            format!(
                "{name}: {} of {} torn states not sound",
                torn.unsound, torn.states
            )
        })
        .collect();
    let mut rows = Vec::new();
    for found in found
        .iter()
        .filter(|found| found.promise != Promise::Breaks)
    {
        rows.push(row(found, &controls.join("; "), scale));
    }
    let caught = found
        .iter()
        .filter(|found| found.promise == Promise::Breaks);
    let missed: Vec<_> = caught.filter_map(Found::failure).collect();
    assert!(missed.is_empty(), "{missed:?}");
    // All rows are reported before the first failure ends the test; the page removes duplicates.
    for row in &rows {
        row.report().unwrap();
    }
    rows.iter().for_each(Row::hold);
}

fn row(found: &Found, controls: &str, scale: Scale) -> Row {
    let observed: Vec<String> = found
        .sums
        .0
        .iter()
        .map(|(crash, sum)| {
            let lost = match sum.lost_most {
                0 => "nothing lost".to_owned(),
                most => format!(
                    "at most {most} replies lost, sent at most {:.0?} before",
                    sum.lost_oldest
                ),
            };
            format!(
                "{crash}: {} states, {} not sound, {lost}",
                sum.states, sum.unsound
            )
        })
        .collect();
    let Promise::Bounded { kill, power } = found.promise else {
        unreachable!("controls are no rows");
    };
    Row {
        row: 20,
        hazard: format!("power loss, kill -9: {}", found.name),
        load: format!("{} crash states, seed {SEED}", found.sums.states()),
        observed: observed.join("; "),
        limit: format!("all sound; lost at kill -9: {kill}, at a power loss: {power}"),
        control: controls.to_owned(),
        pass: found.failure().is_none(),
        scale,
    }
}
