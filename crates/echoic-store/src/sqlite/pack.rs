//! Divides a run into rows that fill the pages of the database.
//!
//! SQLite stores a row whole in a page if it fits, so a row of just over half a page wastes the rest of it: 64 lines of 64
//! bytes with their replies would take twice their size. A row of several pages uses overflow pages of its own, which are
//! full except the last.

use super::connection::PAGE_BYTES;

/// Maximum payload of a row: four such rows fit into a page, with their other columns. A smaller run is one row.
const ROW_BYTES: usize = PAGE_BYTES as usize * 15 / 64;

/// A run from this size on is one row as well: its unused space costs less than more rows would.
const RUN_BYTES: usize = PAGE_BYTES as usize * 2;

/// The part of a run in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Number of exchanges of the run before this part.
    pub(super) before: u32,
    /// Reply bytes of these exchanges.
    pub(super) reply_before: u64,
    pub(super) count: u32,
    pub(super) request: &'a [u8],
    pub(super) reply: &'a [u8],
    /// Lengths of request and reply of each exchange, alternating; empty if there is one exchange.
    pub(super) lengths: &'a [u32],
}

/// Returns the rows of a run: its bytes, and `lengths` as in [`echoic_core::event::RunEvent`].
pub(super) fn parts<'a>(
    count: u32,
    request: &'a [u8],
    reply: &'a [u8],
    lengths: &'a [u32],
) -> impl Iterator<Item = Part<'a>> {
    let bytes = request.len() + reply.len();
    let row_bytes = if (ROW_BYTES..RUN_BYTES).contains(&bytes) && !lengths.is_empty() {
        // Rows of equal size: a short one at the end would be one more than needed.
        bytes.div_ceil(bytes.div_ceil(ROW_BYTES))
    } else {
        usize::MAX
    };
    let mut rest = Some(Part {
        before: 0,
        reply_before: 0,
        count,
        request,
        reply,
        lengths,
    });
    std::iter::from_fn(move || {
        let (part, after) = rest.take()?.cut(row_bytes);
        rest = after;
        Some(part)
    })
}

impl Part<'_> {
    /// Splits off as many exchanges as reach `bytes`, at least one. Returns them and the rest.
    fn cut(self, bytes: usize) -> (Self, Option<Self>) {
        let (mut request, mut reply, mut count) = (0, 0, 0);
        for pair in self.lengths.chunks_exact(2) {
            request += pair[0] as usize;
            reply += pair[1] as usize;
            count += 1;
            if request + reply >= bytes {
                break;
            }
        }
        if count == 0 || count == self.count {
            return (self.without_lone_lengths(), None);
        }
        let (request, request_after) = self.request.split_at(request);
        let (reply, reply_after) = self.reply.split_at(reply);
        let (lengths, lengths_after) = self.lengths.split_at(2 * count as usize);
        let part = Self {
            count,
            request,
            reply,
            lengths,
            ..self
        };
        let after = Self {
            before: self.before + count,
            reply_before: self.reply_before + reply.len() as u64,
            count: self.count - count,
            request: request_after,
            reply: reply_after,
            lengths: lengths_after,
        };
        (part.without_lone_lengths(), Some(after))
    }

    /// Removes the lengths of a single exchange, which follow from its bytes.
    fn without_lone_lengths(self) -> Self {
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
            .map(|part| part.request.len() + part.reply.len())
            .collect()
    }

    #[test]
    fn row_sizes_fill_database_pages() {
        assert_eq!(sizes(16, 64), [2048]);
        assert_eq!(sizes(30, 64), [3840]);
        assert_eq!(sizes(64, 64), [2816, 2816, 2560]);
        assert_eq!(sizes(138, 64), [3584, 3584, 3584, 3584, 3328]);
        // Rows with overflow pages.
        assert_eq!(sizes(256, 64), [32_768]);
        assert_eq!(sizes(1, 8192), [16_384], "a message is not divided");
        assert_eq!(sizes(3, 4096), [8192, 8192, 8192]);
    }

    proptest! {
        #[test]
        fn rows_of_a_run_concatenate_to_the_run(pairs in prop::collection::vec((0_u32..3000, 0_u32..3000), 1..40)) {
            let requests: Vec<u8> = (0..pairs.iter().map(|pair| pair.0).sum()).map(|at| at as u8).collect();
            let replies: Vec<u8> = (0..pairs.iter().map(|pair| pair.1).sum()).map(|at| !at as u8).collect();
            let lengths: Vec<u32> = pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect();
            let lengths = if pairs.len() == 1 { &[][..] } else { &lengths };
            let (mut count, mut joined) = (0, (Vec::new(), Vec::new()));
            for part in parts(pairs.len() as u32, &requests, &replies, lengths) {
                prop_assert_eq!((part.before, part.reply_before), (count, joined.1.len() as u64));
                let own: Vec<(u32, u32)> = match part.lengths {
                    [] => vec![(part.request.len() as u32, part.reply.len() as u32)],
                    lengths => lengths.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
                };
                prop_assert_eq!(&own[..], &pairs[count as usize..][..part.count as usize]);
                count += part.count;
                joined.0.extend_from_slice(part.request);
                joined.1.extend_from_slice(part.reply);
            }
            prop_assert_eq!((count as usize, joined), (pairs.len(), (requests, replies)));
        }
    }
}
