//! The latencies of each second as other tools read them: `.hlog`, the interval log of the HdrHistogram family, V2.

use std::{
    io,
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError},
    },
};

/// The maxima beside the histograms are milliseconds, for people; the histograms are nanoseconds.
const NANOS_PER_MILLI: f64 = 1e6;

/// One histogram of nanoseconds a second, from `opened` on.
pub fn hlog<'a>(
    opened: SystemTime,
    seconds: impl IntoIterator<Item = &'a Histogram<u64>>,
) -> io::Result<Vec<u8>> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        // What the readers in Java and Python look for.
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("latencies in nanoseconds, by the second of the reply, from the moment each request was due")
        .with_start_time(opened)
        .with_base_time(opened)
        .with_max_value_divisor(NANOS_PER_MILLI)
        .begin_log_with(&mut log, &mut serializer)?;
    for (second, latencies) in (0..).zip(seconds) {
        let start = Duration::from_secs(second);
        let written = writer.write_histogram(latencies, start, Duration::from_secs(1), None);
        written.map_err(|why| match why {
            IntervalLogWriterError::IoError(why) => why,
            IntervalLogWriterError::SerializeError(why) => io::Error::other(why),
        })?;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    use super::*;
    use crate::bench::figures::latencies;

    #[test]
    fn the_seconds_are_read_back() {
        let seconds = [1, 2, 3].map(|second: u64| {
            let mut of = latencies();
            of.record_n(second * 1_000_000, second * 10).unwrap();
            of
        });
        let opened = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let log = hlog(opened, &seconds).unwrap();
        let mut read = IntervalLogIterator::new(&log).map(Result::unwrap);
        let at = Duration::from_secs(1_700_000_000);
        assert_eq!(read.next(), Some(LogEntry::StartTime(at)));
        assert_eq!(read.next(), Some(LogEntry::BaseTime(at)));
        for (second, of) in (0..).zip(&seconds) {
            let Some(LogEntry::Interval(interval)) = read.next() else {
                panic!("second {second} is missing")
            };
            assert_eq!(interval.start_timestamp().as_secs(), second);
            assert_eq!(interval.duration().as_secs(), 1);
            assert!((interval.max() - (second + 1) as f64).abs() < 0.01);
            let packed = BASE64_STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            let back: Histogram<u64> = Deserializer::new().deserialize(&mut &packed[..]).unwrap();
            assert_eq!(&back, of);
        }
        assert_eq!(read.next(), None);
    }
}
