use proptest::prelude::*;

use super::*;

/// Sends `run` in parts of `room`, and returns what the worker puts together.
fn sent_in_parts(transfers: &mut Transfers, run: &[u8], room: usize) -> Option<Vec<u8>> {
    let now = Instant::now();
    let (part, mut rest) = run.split_at(room.min(run.len()));
    let mut next = transfers.first(1, run.len() as u64, part, now);
    while let Next::Send(payload) = next {
        if !matches!(read(&payload), Some(Answer::Held { subject: "here" })) || rest.is_empty() {
            return None;
        }
        let offset = (run.len() - rest.len()) as u64;
        let part;
        (part, rest) = rest.split_at(rest.len().min(room));
        next = transfers.more(1, offset, part);
    }
    match next {
        Next::Run(run) => Some(run),
        Next::Send(_) => None,
    }
}

proptest! {
    #[test]
    fn run_in_parts_is_put_together(len in 2..5_000_usize, room in 1..900_usize) {
        prop_assume!(room < len);
        let run: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut transfers = Transfers::at("here".into());
        prop_assert_eq!(sent_in_parts(&mut transfers, &run, room), Some(run));
        prop_assert!(transfers.is_empty());
    }

    #[test]
    fn answer_in_parts_is_put_together(len in 1..6_000_usize, max_payload in 300..2_000_usize) {
        let whole: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut transfers = Transfers::at("here".into());
        let payload = transfers.answer(whole.clone(), max_payload, Instant::now());
        prop_assert!(payload.len() <= max_payload);
        let received = match read(&payload).unwrap() {
            Answer::Whole(whole) => whole.to_vec(),
            Answer::Part { transfer, total, part, .. } => {
                let mut received = part.to_vec();
                while (received.len() as u64) < total {
                    let payload = transfers.rest(transfer, received.len() as u64, max_payload);
                    prop_assert!(payload.len() <= max_payload);
                    let Some(Answer::Whole(part)) = read(&payload) else { panic!() };
                    received.extend_from_slice(part);
                }
                received
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(received, whole);
        prop_assert!(transfers.is_empty());
    }
}

#[test]
fn part_out_of_place_ends_the_transfer() {
    let now = Instant::now();
    for (offset, part) in [(1, &b"b"[..]), (3, b"b"), (2, b"bcde")] {
        let mut transfers = Transfers::at("here".into());
        transfers.first(1, 5, b"aa", now);
        let Next::Send(payload) = transfers.more(1, offset, part) else {
            panic!("{offset} {part:?}");
        };
        assert_eq!(read(&payload), Some(Answer::Unknown), "{offset} {part:?}");
        assert!(transfers.is_empty());
    }
}

#[test]
fn transfers_are_bounded_in_number_and_bytes_and_age() {
    let now = Instant::now();
    let mut transfers = Transfers::at("here".into());
    for transfer in 0..TRANSFERS_MAX as u64 + 10 {
        transfers.first(transfer, 100, b"x", now);
    }
    assert_eq!(transfers.held.len(), TRANSFERS_MAX);
    transfers.first(1_000, 100, b"x", now + TRANSFER_AGE_MAX);
    assert_eq!(transfers.held.len(), 1);
    let Next::Send(payload) = transfers.first(1, TRANSFER_BYTES_MAX as u64 + 1, b"x", now) else {
        panic!("accepted");
    };
    assert!(matches!(read(&payload), Some(Answer::Failed { .. })));
}
