//! When a worker says that it works.

use std::{
    io::{Read, Write, copy},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use super::{
    harness::{Nats, SOON, Talk},
    serve,
    worker::Worker,
};

/// A way to NATS that holds back the first subscription to `subject`, and all after it. Returns its URL, and where it tells that it
/// holds it, and is told to let it go.
fn slow_way(nats: &Nats, subject: &str) -> (String, Receiver<()>, SyncSender<()>) {
    let url = nats.url(subject);
    let address = url.trim_start_matches("nats://").split('/').next().unwrap();
    let (address, subscription) = (address.to_owned(), format!("SUB {subject} "));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = listener.local_addr().unwrap();
    let ((holds, held), (go, gone)) = (sync_channel(1), sync_channel(1));
    thread::spawn(move || {
        let mut worker = listener.accept().unwrap().0;
        let mut server = TcpStream::connect(&*address).unwrap();
        let mut back = (server.try_clone().unwrap(), worker.try_clone().unwrap());
        thread::spawn(move || copy(&mut back.0, &mut back.1));
        let (mut waiting, mut block) = (Vec::new(), [0; 4096]);
        while let Ok(some @ 1..) = worker.read(&mut block) {
            waiting.extend_from_slice(&block[..some]);
            let is_subscribing = String::from_utf8_lossy(&waiting).contains(&subscription);
            if is_subscribing && holds.send(()).is_ok() {
                let _ = gone.recv();
            }
            let _ = server.write_all(&waiting);
            waiting.clear();
        }
    });
    (format!("nats://{ours}/{subject}"), held, go)
}

/// NATS gives a run to nobody until it has the subscription: that it is written to the socket does not suffice.
#[test]
fn worker_says_that_it_works_when_nats_has_its_subscription() {
    let nats = Nats::start(&[]);
    let (url, held, go) = slow_way(&nats, "upper");
    let worker = Worker::begin_on(&url, "upper");
    held.recv_timeout(SOON).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(worker.err.so_far(), [""; 0], "it works before NATS knows");
    go.send(()).unwrap();
    worker.err.wait_for("working: ");
    let serve = serve(&nats, "upper", &["--frame", "line"]);
    Talk::to(serve.at[0]).ask("a\n", "A\n");
    serve.stop();
    worker.stop();
}
