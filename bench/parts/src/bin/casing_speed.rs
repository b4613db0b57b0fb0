//! Measures the speed of `upper` against the standard library in the same run: a copy and `make_ascii_uppercase` for
//! ASCII, `str::to_uppercase` for other texts. The ratios are comparable between machines, the speeds are not.
//!
//! `cargo run --release -p parts --bin casing_speed`, with ` -- --json` for `scripts/bench`.
#![allow(clippy::print_stdout, reason = "the figures are the payload")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use echoic_service::casing::Upper;

/// Measurements of each side, alternating. The best counts, since other programs only slow a measurement down.
const ROUNDS: usize = 40;
/// Duration of one measurement: long against the clock's resolution, short against the scheduler's time slice.
const ROUND_DURATION: Duration = Duration::from_millis(2);

fn main() {
    let latin = "Der Café-Gast aß übrigens später noch Crème brûlée à la carte; ";
    let greek = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ";
    let cyrillic = "Все люди рождаются свободными и равными в своём достоинстве. ";
    let han = "人人生而自由，在尊严和权利上一律平等。";
    let json = std::env::args().any(|word| word == "--json");
    if json {
        for (name, text, std) in [
            (
                "ASCII",
                "The quick brown fox jumps. ",
                copy_upper as Mapping,
            ),
            ("mixed Latin", latin, std_upper),
            ("Greek", greek, std_upper),
        ] {
            for (suffix, len) in [("", 64 << 10), (", 64 B", 64)] {
                let text = repeat(text, len);
                let (ours, std) = compare(&text, std);
                for (server, nanos) in [("echoic", ours), ("std", std)] {
                    println!(
                        "{{\"load\":\"upper, {name}{suffix}\",\"server\":\"{server}\",\"gb_per_second\":{:.4}}}",
                        text.len() as f64 / nanos
                    );
                }
            }
        }
        return;
    }
    println!(
        "{:<18} {:>8} {:>10} {:>9} {:>9} {:>7}",
        "text", "bytes", "ns", "GB/s", "std GB/s", "ratio"
    );
    for len in [6, 16, 27, 64, 1 << 10, 64 << 10] {
        print_line(
            "ASCII",
            &repeat("The quick brown fox jumps. ", len),
            copy_upper,
        );
    }
    for (name, text) in [
        ("mixed Latin", latin),
        ("Greek", greek),
        ("Cyrillic", cyrillic),
        (
            "Vietnamese",
            "Tất cả mọi người sinh ra đều được tự do và bình đẳng. ",
        ),
        (
            "Georgian",
            "ყველა ადამიანი იბადება თავისუფალი და თანასწორი. ",
        ),
        ("Han", han),
        ("emoji", "ok 👍🏽 done 🎉 "),
        (
            "one é in a line",
            "an ordinary line of log with a caf\u{e9}, 2026-01-01 00:00:00 INFO\n",
        ),
        ("all of ΐ (3 times)", "ΐ"),
    ] {
        for len in [64, 64 << 10] {
            print_line(name, &repeat(text, len), std_upper);
        }
    }
}

/// Repeats `text` up to `len` bytes, cut at a character boundary.
fn repeat(text: &str, len: usize) -> String {
    let mut long = text.repeat(len / text.len() + 1);
    long.truncate(long.floor_char_boundary(len));
    long
}

fn copy_upper(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.make_ascii_uppercase();
}

fn std_upper(text: &str, out: &mut Vec<u8>) {
    // The call allocates; there is no other. The copy into a reply, which would be needed too, is not measured.
    *out = text.to_uppercase().into_bytes();
}

type Mapping = fn(&str, &mut Vec<u8>);

/// Returns the nanoseconds a text takes: ours, and the standard library's.
fn compare(text: &str, std: Mapping) -> (f64, f64) {
    let ours = |text: &str, out: &mut Vec<u8>| {
        let mut upper = Upper::default();
        upper.push(text.as_bytes(), out);
        upper.finish(out);
    };
    let (mut best_ours, mut best_std) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best_ours = best_ours.min(nanos(text, ours));
        best_std = best_std.min(nanos(text, std));
    }
    (best_ours, best_std)
}

fn print_line(name: &str, text: &str, std: Mapping) {
    let (best_ours, best_std) = compare(text, std);
    let bytes = text.len() as f64;
    println!(
        "{name:<18} {bytes:>8} {best_ours:>10.1} {:>9.2} {:>9.2} {:>7.2}",
        bytes / best_ours,
        bytes / best_std,
        best_std / best_ours,
    );
}

/// Returns the nanoseconds one text takes, as the mean of a round.
fn nanos(text: &str, map: impl Fn(&str, &mut Vec<u8>)) -> f64 {
    let mut out = Vec::with_capacity(text.len() * 3);
    let batch = (200_000 / text.len()).clamp(1, 5_000);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < ROUND_DURATION {
        for _ in 0..batch {
            out.clear();
            map(black_box(text), &mut out);
            black_box(&out);
        }
        count += batch;
    }
    start.elapsed().as_nanos() as f64 / count as f64
}
