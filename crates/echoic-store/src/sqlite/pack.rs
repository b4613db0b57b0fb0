//! How a run is divided into rows, so that pages of the record are full.
//!
//! SQLite keeps a row whole within a page where it fits, so that one of just more than half a page leaves the rest of
//! it empty: 64 lines of 64 bytes with their replies cost two times their bytes, twice. A row of a few pages goes over
//! into pages of its own, and these are full but for the last one.

use super::connection::PAGE_BYTES;

/// A run no larger is one row. Four of these go into a page, with what else is in a row.
const ROW_BYTES: usize = PAGE_BYTES as usize * 15 / 64;

/// A larger one is one row as well: what it leaves empty is less than what rows cost.
const RUN_BYTES: usize = PAGE_BYTES as usize * 2;

/// A row's share of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Exchanges of the run before it.
    pub(super) before: u32,
    /// Bytes that were said in these.
    pub(super) said_before: u64,
    pub(super) count: u32,
    pub(super) heard: &'a [u8],
    pub(super) said: &'a [u8],
    /// Heard and said of each exchange, alternating; empty if there is one.
    pub(super) lengths: &'a [u32],
}

/// The rows of a run: its bytes, and `lengths` as in [`echoic_core::event::RunEvent`].
pub(super) fn parts<'a>(
    count: u32,
    heard: &'a [u8],
    said: &'a [u8],
    lengths: &'a [u32],
) -> impl Iterator<Item = Part<'a>> {
    let bytes = heard.len() + said.len();
    let row_bytes = if (ROW_BYTES..RUN_BYTES).contains(&bytes) && !lengths.is_empty() {
        // Rows alike: a short one at the end would be one more than is needed.
        bytes.div_ceil(bytes.div_ceil(ROW_BYTES))
    } else {
        usize::MAX
    };
    let mut rest = Some(Part {
        before: 0,
        said_before: 0,
        count,
        heard,
        said,
        lengths,
    });
    std::iter::from_fn(move || {
        let (part, after) = rest.take()?.cut(row_bytes);
        rest = after;
        Some(part)
    })
}

impl Part<'_> {
    /// So many exchanges of it as reach `bytes`, at least one, and the rest.
    fn cut(self, bytes: usize) -> (Self, Option<Self>) {
        let (mut heard, mut said, mut count) = (0, 0, 0);
        for pair in self.lengths.chunks_exact(2) {
            heard += pair[0] as usize;
            said += pair[1] as usize;
            count += 1;
            if heard + said >= bytes {
                break;
            }
        }
        if count == 0 || count == self.count {
            return (self.told(), None);
        }
        let (heard, heard_after) = self.heard.split_at(heard);
        let (said, said_after) = self.said.split_at(said);
        let (lengths, lengths_after) = self.lengths.split_at(2 * count as usize);
        let part = Self {
            count,
            heard,
            said,
            lengths,
            ..self
        };
        let after = Self {
            before: self.before + count,
            said_before: self.said_before + said.len() as u64,
            count: self.count - count,
            heard: heard_after,
            said: said_after,
            lengths: lengths_after,
        };
        (part.told(), Some(after))
    }

    /// One exchange has its lengths from its bytes.
    fn told(self) -> Self {
        let lengths = if self.count == 1 { &[] } else { self.lengths };
        Self { lengths, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(lines: u32, size: u32) -> Vec<usize> {
        let bytes = vec![0; (lines * size) as usize];
        let lengths = vec![size; 2 * lines as usize];
        let lengths = if lines == 1 { &[][..] } else { &lengths };
        parts(lines, &bytes, &bytes, lengths)
            .map(|part| part.heard.len() + part.said.len())
            .collect()
    }

    #[test]
    fn row_sizes_fill_database_pages() {
        assert_eq!(sizes(16, 64), [2048]);
        assert_eq!(sizes(30, 64), [3840]);
        assert_eq!(sizes(64, 64), [2816, 2816, 2560]);
        assert_eq!(sizes(138, 64), [3584, 3584, 3584, 3584, 3328]);
        // Rows of their own pages.
        assert_eq!(sizes(256, 64), [32_768]);
        assert_eq!(sizes(1, 8192), [16_384], "a message is not divided");
        assert_eq!(sizes(3, 4096), [8192, 8192, 8192]);
    }

    proptest! {
        #[test]
        fn rows_of_a_run_concatenate_to_the_run(pairs in prop::collection::vec((0_u32..3000, 0_u32..3000), 1..40)) {
            let heard: Vec<u8> = (0..pairs.iter().map(|pair| pair.0).sum()).map(|at| at as u8).collect();
            let said: Vec<u8> = (0..pairs.iter().map(|pair| pair.1).sum()).map(|at| !at as u8).collect();
            let lengths: Vec<u32> = pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect();
            let lengths = if pairs.len() == 1 { &[][..] } else { &lengths };
            let (mut count, mut joined) = (0, (Vec::new(), Vec::new()));
            for part in parts(pairs.len() as u32, &heard, &said, lengths) {
                prop_assert_eq!((part.before, part.said_before), (count, joined.1.len() as u64));
                let own: Vec<(u32, u32)> = match part.lengths {
                    [] => vec![(part.heard.len() as u32, part.said.len() as u32)],
                    lengths => lengths.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
                };
                prop_assert_eq!(&own[..], &pairs[count as usize..][..part.count as usize]);
                count += part.count;
                joined.0.extend_from_slice(part.heard);
                joined.1.extend_from_slice(part.said);
            }
            prop_assert_eq!((count as usize, joined), (pairs.len(), (heard, said)));
        }
    }
}
