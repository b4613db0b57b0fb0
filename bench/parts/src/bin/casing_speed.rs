//! How fast `upper` is, each text beside what the standard library takes for it in the same run: for ASCII a
//! copy and `make_ascii_uppercase`, for the rest `str::to_uppercase`. Read the ratios, not the gigabytes.
//!
//! `cargo run --release -p parts --bin casing_speed`, with ` -- --json` for `scripts/bench`.
#![allow(clippy::print_stdout, reason = "the figures are the payload")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use echoic_service::casing::Upper;

/// Each side is measured this often, in turns, and the best counts: other programs only ever slow it down.
const ROUNDS: usize = 40;
/// Long enough for the clock, short enough to fit between two interruptions.
const ROUND: Duration = Duration::from_millis(2);

fn main() {
    let latin = "Der Café-Gast aß übrigens später noch Crème brûlée à la carte; ";
    let greek = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ";
    let cyrillic = "Все люди рождаются свободными и равными в своём достоинстве. ";
    let han = "人人生而自由，在尊严和权利上一律平等。";
    let json = std::env::args().any(|word| word == "--json");
    if json {
        for (name, text, std) in [
            ("ASCII", "The quick brown fox jumps. ", copied as Mapping),
            ("mixed Latin", latin, mapped),
            ("Greek", greek, mapped),
        ] {
            for (of, len) in [("", 64 << 10), (", 64 B", 64)] {
                let text = repeat(text, len);
                let (ours, std) = compare(&text, std);
                for (by, nanos) in [("echoic", ours), ("std", std)] {
                    println!(
                        "{{\"load\":\"upper, {name}{of}\",\"server\":\"{by}\",\"gb_per_second\":{:.4}}}",
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
        line("ASCII", &repeat("The quick brown fox jumps. ", len), copied);
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
            line(name, &repeat(text, len), mapped);
        }
    }
}

/// At most `len` bytes of `text` over and over, cut at a character.
fn repeat(text: &str, len: usize) -> String {
    let mut long = text.repeat(len / text.len() + 1);
    long.truncate(long.floor_char_boundary(len));
    long
}

fn copied(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.make_ascii_uppercase();
}

fn mapped(text: &str, out: &mut Vec<u8>) {
    // Allocates, as there is no other way to call it; the copy that a reply would need as well is not counted.
    *out = text.to_uppercase().into_bytes();
}

type Mapping = fn(&str, &mut Vec<u8>);

/// Nanoseconds for a text: ours, and the standard library's.
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

fn line(name: &str, text: &str, std: Mapping) {
    let (best_ours, best_std) = compare(text, std);
    let bytes = text.len() as f64;
    println!(
        "{name:<18} {bytes:>8} {best_ours:>10.1} {:>9.2} {:>9.2} {:>7.2}",
        bytes / best_ours,
        bytes / best_std,
        best_std / best_ours,
    );
}

/// Nanoseconds for one text, over a round.
fn nanos(text: &str, map: impl Fn(&str, &mut Vec<u8>)) -> f64 {
    let mut out = Vec::with_capacity(text.len() * 3);
    let times = (200_000 / text.len()).clamp(1, 5_000);
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        for _ in 0..times {
            out.clear();
            map(black_box(text), &mut out);
            black_box(&out);
        }
        done += times;
    }
    start.elapsed().as_nanos() as f64 / done as f64
}
