use std::{cell::RefCell, rc::Rc};

use echoic_core::{
    event::{Address, EndpointInfo, Outcome, Protocol, Role, RunMeta},
    framing::Framing,
};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::*;

fn opened() -> Opened {
    let address = Address::Net("[::1]:5000".parse().unwrap());
    let endpoint_info = EndpointInfo {
        name: "tcp:5000".to_owned(),
        proto: Protocol::Tcp,
        service: "up\"per".to_owned(),
        framing: Framing::Line.into(),
    };
    Opened {
        conversation: 7,
        at: 1,
        remote: address.clone(),
        local: address,
        role: Role::Server,
        endpoint_info: Arc::new(endpoint_info),
        tls: None,
    }
}

/// So many exchanges of 100 bytes each.
fn batch(exchanges: u64) -> Seen {
    let mut batch = Batch::default();
    for n in 1..=exchanges {
        let meta = RunMeta {
            conversation: 7,
            n,
            at: 1_700_000_000_000_000,
            latency_ns: 5000,
            reads: 1,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, &[b'a'; 50], &[b'A'; 50]);
    }
    Seen::Batch {
        first_id: 1,
        batch: Arc::new(batch),
    }
}

/// A device with room for so many bytes.
#[derive(Clone, Default)]
struct Device(Rc<RefCell<(Vec<u8>, usize)>>);

impl Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (taken, room) = &mut *self.0.borrow_mut();
        let n = bytes.len().min(*room);
        if n == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        taken.extend(&bytes[..n]);
        *room -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Device {
    fn with_room(bytes: usize) -> Self {
        let device = Self::default();
        device.grow(bytes);
        device
    }

    fn grow(&self, bytes: usize) {
        self.0.borrow_mut().1 += bytes;
    }

    /// Counts the exchanges printed and those of `gap` events; incomplete lines count for neither.
    fn counts(&self) -> (u64, u64) {
        let (mut printed, mut missing) = (0, 0);
        for line in self.0.borrow().0.split(|byte| *byte == b'\n') {
            let Ok(event) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            match event["ev"].as_str() {
                Some("exchange") => printed += 1,
                Some("gap") => missing += event["n"].as_u64().unwrap(),
                _ => {}
            }
        }
        (printed, missing)
    }
}

type Notes = Rc<RefCell<Vec<String>>>;

/// Creates a printer on `device` that knows conversation 7. Also returns its notes on standard error.
fn printer(device: &Device) -> (JsonPrinter<Device, impl Fn(&str)>, Notes) {
    let notes = Notes::default();
    let printed = Rc::clone(&notes);
    let note = move |text: &str| printed.borrow_mut().push(text.to_owned());
    let mut printer = JsonPrinter::new(device.clone(), note);
    printer.opened(&opened(), &Arc::default()).unwrap();
    (printer, notes)
}

#[test]
fn json_gap_plus_printed_equals_served_on_a_device_that_fills_at_any_byte() {
    for room in (0..4000).step_by(7) {
        let device = Device::with_room(room);
        let (mut printer, notes) = printer(&device);
        printer.print(&batch(3)).unwrap();
        printer.flush().unwrap();
        printer.print(&batch(5)).unwrap();
        printer.flush().unwrap();
        // The device has room for a part of a line, or of the `gap` event.
        device.grow(room % 40);
        printer.try_again().unwrap();
        printer.print(&batch(2)).unwrap();
        device.grow(1 << 20);
        printer.finish().unwrap();
        let (printed, missing) = device.counts();
        assert_eq!(printed + missing, 10, "{room}: {printed} and {missing}");
        assert!(notes.borrow().len() <= 1, "{:?}", notes.borrow());
        let was_full = missing > 0;
        assert_eq!(notes.borrow().len(), usize::from(was_full), "{room}");
    }
}

#[test]
fn full_device_is_reported_once_and_costs_no_serializing() {
    let device = Device::with_room(0);
    let (mut printer, notes) = printer(&device);
    for _ in 0..100 {
        printer.print(&batch(1000)).unwrap();
        printer.flush().unwrap();
        assert!(printer.lines.is_empty());
    }
    printer.finish().unwrap();
    assert_eq!(notes.borrow().len(), 1, "{:?}", notes.borrow());
    assert_eq!(printer.missed, 100_000);
}

#[test]
fn slow_reader_gets_each_gap_and_one_warning() {
    let device = Device::with_room(1 << 20);
    let (mut printer, notes) = printer(&device);
    for exchanges in [3, 4] {
        let missed = Missed {
            exchanges,
            ..Missed::default()
        };
        printer.print(&Seen::Gap(missed)).unwrap();
        printer.print(&batch(1)).unwrap();
    }
    printer.finish().unwrap();
    assert_eq!(device.counts(), (2, 7));
    assert_eq!(*notes.borrow(), [TOO_SLOW]);
}

#[test]
fn exchanges_of_a_conversation_opened_in_a_gap_are_printed() {
    let device = Device::with_room(1 << 20);
    let mut printer = JsonPrinter::new(device.clone(), |_: &str| ());
    printer.print(&batch(2)).unwrap();
    let missed = Missed {
        exchanges: 1,
        opened: vec![opened()],
        ..Missed::default()
    };
    printer.print(&Seen::Gap(missed)).unwrap();
    printer.print(&batch(4)).unwrap();
    printer.finish().unwrap();
    assert_eq!(
        device.counts(),
        (4, 3),
        "exchanges of an unknown conversation count as a gap"
    );
}

#[test]
fn reader_that_has_gone_is_an_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut printer = JsonPrinter::new(Gone, |_: &str| panic!("the caller reports it"));
    printer.opened(&opened(), &Arc::default()).unwrap();
    assert_eq!(printer.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// Checks that the line formatted by hand is the one of serde.
fn agree(request: &[u8], reply: &[u8], outcome: Outcome) {
    let mut batch = Batch::default();
    let meta = RunMeta {
        conversation: 7,
        n: u64::MAX,
        at: -1,
        latency_ns: 0,
        reads: 3,
        reply_offset: 0,
    };
    batch.push_exchange(meta, outcome, request, reply);
    let Event::Run(run) = &batch.events[0] else {
        panic!("a run");
    };
    for role in Role::ALL {
        let opened = Opened {
            role: *role,
            ..opened()
        };
        let conversation = Arc::new(Conversation::new(opened, Arc::default()));
        for exchange in exchanges(run, 17, &batch, &conversation) {
            let (mut by_hand, mut by_serde) = (Vec::new(), Vec::new());
            let middle = middle(&conversation).unwrap();
            push_exchange(&mut by_hand, &exchange, &middle, &mut Rfc3339::default()).unwrap();
            let event = EventJson::exchange(exchange);
            let event = WithTime::new(event, exchange.at, &mut Rfc3339::default());
            json_line(&mut by_serde, &event).unwrap();
            let text = |line| String::from_utf8(line).unwrap();
            assert_eq!(text(by_hand), text(by_serde));
        }
    }
}

/// Exchanges printed without an id get one when recording continues; the event has the range.
#[test]
fn recording_again_has_the_range_of_ids() {
    let device = Device::with_room(1 << 20);
    let (mut printer, _) = printer(&device);
    for recovered in [Some((3, 9)), None] {
        let status = RecorderStatus {
            lost: 1,
            recovered,
            ..RecorderStatus::default()
        };
        printer.print(&Seen::RecorderStatus(status)).unwrap();
    }
    printer.finish().unwrap();
    let text = String::from_utf8(device.0.borrow().0.clone()).unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            r#"{"ev":"recording","v":1,"lost":1,"first":3,"last":9}"#,
            r#"{"ev":"recording","v":1,"lost":1}"#
        ]
    );
}

#[test]
fn line_written_by_hand_is_that_of_serde_for_every_byte_and_outcome() {
    for byte in 0..=255 {
        agree(&[b'a', byte, b'b'], &[byte], Outcome::Ok);
    }
    agree(b"GET / HTTP/1.1\r\n\r\n", b"", Outcome::Unanswered);
    agree(b"", b"hello\n", Outcome::Withheld);
    agree(b"a", b"", Outcome::Unpaired);
    agree(b"x", b"X", Outcome::Unsent);
}

proptest! {
    #[test]
    fn line_written_by_hand_is_that_of_serde(request in vec(0..128u8, 0..80), reply in ".*") {
        agree(&request, reply.as_bytes(), Outcome::Ok);
    }
}
