//! Times are read as they are shown: in the zone of the reader.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    harness::{Home, run},
    record,
};

/// Half past five in the east of UTC, by a rule of POSIX: the test needs no time zone database.
const ZONE: &str = "IST-5:30";
const ZONE_US: i64 = 19_800_000_000;
const DAY: i64 = 86_400_000_000;

/// 2026-03-07 23:59:07.113999 in that zone.
const AT: i64 = 1_772_908_147_113_999;

fn log(home: &Home, args: &[&str]) -> String {
    let mut log = home.echoic(&[&["log"], args].concat());
    run(log.env("TZ", ZONE), b"").good()
}

#[test]
fn listed_time_is_found_as_typed() {
    let home = record::at_times(&[AT]);
    let listed = log(&home, &["--show"]);
    assert!(
        listed.contains("2026-03-07 23:59:07.113999+05:30"),
        "{listed}"
    );
    for (filter, count) in [
        (&["since:2026-03-07T23:59"][..], "1"),
        (&["since:2026-03-07 23:59:07.113"], "1"),
        (&["since:2026-03-07", "23:59:07.113"], "1"),
        (&["since:2026-03-07 23:59:07.113999+05:30"], "1"),
        (&["since:2026-03-07 23:59:07.114"], "0"),
        (&["since:2026-03-07", "before:2026-03-08"], "1"),
        (&["since:2026-03-08"], "0"),
        (
            &["since:2026-03-07T18:29Z", "before:2026-03-07T18:30Z"],
            "1",
        ),
        (&["since:2026-03-07T18:30Z"], "0"),
    ] {
        let args = [filter, &["--count"]].concat();
        assert_eq!(log(&home, &args).trim_end(), count, "{filter:?}");
    }
}

/// Midnight of the current day in the zone; waits if it is about to change.
fn midnight() -> i64 {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let local = i64::try_from(now.as_micros()).unwrap() + ZONE_US;
        if local % DAY < DAY - 60_000_000 {
            return local - local % DAY - ZONE_US;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[test]
fn today_and_yesterday_are_days_of_the_reader() {
    let today = midnight();
    let home = record::at_times(&[
        today - DAY - 1,
        today - DAY,
        today - 1,
        today,
        today + 60_000_000,
    ]);
    for (filter, expected) in [
        ("since:today", "4 5"),
        ("since:yesterday before:today", "2 3"),
        ("before:yesterday", "1"),
        ("since:0:01", "5"),
        ("before:00:01 since:00:00", "4"),
        ("since:yesterday 00:00:00.000001", "3 4 5"),
    ] {
        let listed = log(&home, &["--json", filter]);
        let requests: Vec<String> = listed
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["req"]["text"].clone()
            })
            .map(|text| text.as_str().unwrap().trim().to_owned())
            .collect();
        assert_eq!(requests.join(" "), expected, "{filter}");
    }
}

#[test]
fn json_names_the_zone() {
    let home = record::at_times(&[AT]);
    let listed: serde_json::Value = serde_json::from_str(&log(&home, &["--json"])).unwrap();
    assert_eq!(listed["t_us"], AT);
    assert_eq!(listed["time"], "2026-03-07T23:59:07.113999+05:30");
}

#[test]
fn recorded_requests_are_chosen_by_local_time() {
    let home = record::at_times(&[AT]);
    for (filter, is_found) in [
        ("since:2026-03-07T23:59", true),
        ("since:2026-03-07T23:59:08", false),
    ] {
        // Port 1 of loopback refuses: only what is read from the record matters here.
        let mut bench = home.echoic(&[
            "bench",
            "127.0.0.1:1",
            "--from-store",
            filter,
            "-d",
            "1s",
            "-q",
        ]);
        let ran = run(bench.env("TZ", ZONE), b"");
        let has_none = ran.err.contains("no exchange with a request matches");
        assert_eq!(has_none, !is_found, "{filter}: {ran:?}");
    }
}

#[test]
fn list_shows_the_date_where_it_is_not_today() {
    let today = midnight();
    let noon = today + DAY / 2;
    let home = record::at_times(&[today - 1, noon, noon + 1_999]);
    let listed = log(&home, &["--text"]);
    let times: Vec<&str> = listed
        .lines()
        .map(|line| line.split("  #").next().unwrap())
        .collect();
    let [yesterday, first, second] = times[..] else {
        panic!("{listed}");
    };
    assert!(yesterday.ends_with(" 23:59:59.999"), "{listed}");
    let parts: Vec<usize> = yesterday.split(['-', ' ', ':']).map(str::len).collect();
    assert_eq!(parts, [4, 2, 2, 2, 2, 6], "{listed}");
    assert_eq!(
        first, "           12:00:00.000",
        "the columns keep their places"
    );
    assert_eq!(
        second, "           12:00:00.001",
        "cut, not rounded: since: finds it"
    );
    assert_eq!(log(&home, &["--count", "since:12:00:00.001"]), "1\n");
    let found = log(&home, &["--count", &format!("since:{yesterday}")]);
    assert_eq!(found, "3\n", "as it is listed");
    // Where all are of today, no column is kept for dates.
    assert!(log(&home, &["--text", "since:today"]).starts_with("12:00:00.000  #"));
}
