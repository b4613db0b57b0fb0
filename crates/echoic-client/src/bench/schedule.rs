//! The schedule of requests: an iterator of due times, fixed before the run and determined by the seed.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    clock::saturating_nanos,
    plan::{Arrivals, Load},
};

/// Due times for one of several threads, in nanoseconds from the start, ascending. Infinite except for recorded traffic.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Moments,
    /// This thread takes every nth time.
    step: u64,
    skip: u64,
}

#[derive(Clone, Debug)]
enum Moments {
    Even {
        gap: f64,
        together: u64,
        index: u64,
    },
    Poisson {
        gap: f64,
        now: f64,
        random: SmallRng,
    },
    Recorded {
        times: Arc<[u64]>,
        index: usize,
    },
}

impl Schedule {
    /// Creates the schedule of thread `thread` of `threads`; `None` in a closed loop, which has no due times.
    pub fn new(load: &Load, seed: u64, thread: u32, threads: u32) -> Option<Self> {
        let arrivals = match load {
            Load::Closed => return None,
            Load::Open { rate, arrivals } => {
                let gap = 1e9 / rate;
                match arrivals {
                    Arrivals::Constant => Moments::Even {
                        gap,
                        together: 1,
                        index: 0,
                    },
                    Arrivals::Burst(together) => Moments::Even {
                        gap,
                        together: (*together).max(1).into(),
                        index: 0,
                    },
                    Arrivals::Poisson => Moments::Poisson {
                        gap,
                        now: 0.0,
                        random: SmallRng::seed_from_u64(seed),
                    },
                }
            }
            Load::Recorded(times) => Moments::Recorded {
                times: Arc::clone(times),
                index: 0,
            },
        };
        Some(Self {
            arrivals,
            step: threads.max(1).into(),
            skip: thread.into(),
        })
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        for _ in 0..self.skip {
            self.arrivals.next()?;
        }
        self.skip = self.step - 1;
        self.arrivals.next()
    }
}

impl Iterator for Moments {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Even {
                gap,
                together,
                index,
            } => {
                let at = *index - *index % *together;
                *index += 1;
                // A product instead of a sum, so that rounding errors do not accumulate.
                Some(saturating_nanos(at as f64 * *gap))
            }
            Self::Poisson { gap, now, random } => {
                // In (0, 1], so that the logarithm is finite.
                let uniform = 1.0 - random.random::<f64>();
                *now -= uniform.ln() * *gap;
                Some(saturating_nanos(*now))
            }
            Self::Recorded { times, index } => {
                let at = times.get(*index).copied();
                *index += 1;
                at
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(rate: f64, arrivals: Arrivals) -> Load {
        Load::Open { rate, arrivals }
    }

    fn arrivals() -> impl Strategy<Value = Arrivals> {
        prop_oneof![
            Just(Arrivals::Constant),
            Just(Arrivals::Poisson),
            (1_u32..100).prop_map(Arrivals::Burst),
        ]
    }

    #[test]
    fn constant_rate_is_exact_to_the_nanosecond_for_hours() {
        let mut schedule = Schedule::new(&open(3.0, Arrivals::Constant), 0, 0, 1).unwrap();
        assert_eq!(schedule.next(), Some(0));
        assert_eq!(schedule.nth(36_000 - 2), Some(11_999_666_666_666));
        assert_eq!(schedule.next(), Some(12_000_000_000_000));
    }

    #[test]
    fn burst_requests_are_due_at_once() {
        let schedule = Schedule::new(&open(1000.0, Arrivals::Burst(3)), 0, 0, 1).unwrap();
        let due: Vec<_> = schedule.take(7).collect();
        assert_eq!(due, [0, 0, 0, 3_000_000, 3_000_000, 3_000_000, 6_000_000]);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let schedule = Schedule::new(&open(1000.0, Arrivals::Poisson), 7, 0, 1).unwrap();
        let due: Vec<_> = schedule.take(100_001).collect();
        let gaps: Vec<_> = due
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e6)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer_than_mean =
            gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        // e^-1
        assert!(
            (longer_than_mean - 0.3679).abs() < 0.01,
            "{longer_than_mean}"
        );
    }

    #[test]
    fn closed_loop_has_no_schedule() {
        assert!(Schedule::new(&Load::Closed, 0, 0, 1).is_none());
    }

    #[test]
    fn recorded_schedule_ends() {
        let load = Load::Recorded([5, 5, 9].into());
        let schedule = Schedule::new(&load, 0, 1, 2).unwrap();
        assert_eq!(schedule.collect::<Vec<_>>(), [5]);
    }

    proptest! {
        #[test]
        fn threads_share_one_schedule_without_loss(
            rate in 1.0_f64..1e6, arrivals in arrivals(), seed in any::<u64>(), threads in 1_u32..5,
        ) {
            let load = open(rate, arrivals);
            let whole: Vec<_> = Schedule::new(&load, seed, 0, 1).unwrap().take(200).collect();
            let mut shared = Vec::new();
            let mut parts: Vec<_> = (0..threads).map(|n| Schedule::new(&load, seed, n, threads).unwrap()).collect();
            for index in 0..200 {
                shared.push(parts[index % threads as usize].next().unwrap());
            }
            prop_assert_eq!(&shared, &whole);
            prop_assert!(whole.is_sorted());
        }
    }
}
