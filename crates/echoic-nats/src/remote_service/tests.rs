use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// A node of NATS that knows of a worker only from a question on: before, it answers that nobody serves the subject.
fn node_that_learns_of_a_worker(stream: TcpStream, known_from: u32) {
    const UNKNOWN: &str = "NATS/1.0 503\r\n\r\n";
    let service = "upper";
    let hello = write(&Answer::Hello {
        service,
        amplifies: false,
    });
    let mut out = stream.try_clone().unwrap();
    write!(out, "INFO {{\"headers\":true,\"max_payload\":1048576}}\r\n").unwrap();
    let (mut lines, mut line, mut asked) = (BufReader::new(stream), String::new(), 0);
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["PING"] => out.write_all(b"PONG\r\n").unwrap(),
            // Each of its subscriptions is that of its answers, the first one.
            ["PUB", _, reply, length] => {
                let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
                lines.read_exact(&mut payload).unwrap();
                asked += 1;
                if asked < known_from {
                    let length = UNKNOWN.len();
                    write!(out, "HMSG {reply} 1 {length} {length}\r\n{UNKNOWN}\r\n").unwrap();
                } else {
                    write!(out, "MSG {reply} 1 {}\r\n", hello.len()).unwrap();
                    out.write_all(&[&hello[..], b"\r\n"].concat()).unwrap();
                }
            }
            _ => {}
        }
        line.clear();
    }
}

/// Connects a service to such a node.
async fn connected(known_from: u32) -> Result<RemoteService, NatsError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}/work", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || node_that_learns_of_a_worker(stream, known_from));
        }
    });
    let service = RemoteService::new(url.parse().unwrap(), WORKER_TIMEOUT);
    service.connect("test").await?;
    Ok(service)
}

#[tokio::test]
async fn worker_that_a_node_does_not_know_yet_is_waited_for() {
    assert_eq!(connected(1).await.unwrap().name(), "upper");
    assert_eq!(connected(3).await.unwrap().name(), "upper");
    let unknown = connected(u32::MAX).await.unwrap_err();
    assert!(unknown.to_string().contains("no worker"), "{unknown}");
}
