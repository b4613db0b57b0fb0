//! The classic services (RFC 862 to 868) and our own, with peers that know the RFCs, and their records.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    fs,
    io::Read,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use self::harness::{Home, Ran, Serve, Talk, python, until};

/// Connects in Python, sends nothing, reads to the end, and prints the value of an expression over the bytes.
#[track_caller]
fn receive_in_python(serve: &Serve, expression: &str) -> String {
    let program = format!(
        "
import datetime, socket, struct, sys, time
before = time.time()
received = b''
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30) as peer:
    while part := peer.recv(1024):
        received += part
after = time.time()
{expression}
"
    );
    python(&program, &[&serve.at[0].port()], "").good()
}

#[test]
fn discard_reads_everything_and_sends_nothing() {
    let serve = Serve::start(&["discard=:0", "discard=:0?frame=line"]);
    let mut stream = Talk::to(serve.at[0]);
    for _ in 0..100 {
        stream.send([b'x'; 10_000]);
    }
    assert_eq!(stream.finish(), b"");
    let mut lines = Talk::to(serve.at[1]);
    lines.send("one\ntwo\nthree");
    assert_eq!(lines.finish(), b"");
    let (home, port) = (serve.home.clone(), serve.at[1].port());
    serve.stop();
    let lines = home.log(&[&format!("ep:tcp:{port}")]);
    let received: Vec<&str> = lines
        .iter()
        .map(|e| e["req"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(received, ["one\n", "two\n", "three"]);
    for line in &lines {
        assert_eq!(
            (&line["svc"], &line["outcome"]),
            (&json!("discard"), &json!("ok"))
        );
        assert_eq!(
            line["rep"]["len"], 0,
            "silence is an answer of nothing: {line}"
        );
    }
    let ends = home.sql("SELECT reason, received, sent FROM conversation ORDER BY received DESC");
    assert_eq!(ends, ["peer-closed|1000000|0", "peer-closed|13|0"]);
}

/// Python's own `lower()` implements the rule.
const LOWER: &str = "
import socket, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30) as peer:
    for line in ['ΟΔΟΣ', 'ΣΟΦΟΣ ΟΔΟΣ.', 'Σ', 'ΑΣ', 'ΑΣΑ', 'ÀÉÎ İ STRASSE ẞ', '']:
        for byte in (line + '\\n').encode():
            peer.sendall(bytes([byte]))
        reply = b''
        while not reply.endswith(b'\\n'):
            reply += peer.recv(1024)
        assert reply.decode() == line.lower() + '\\n', (line, reply.decode())
";

#[test]
fn lower_maps_final_sigma_only_in_a_whole_message() {
    let serve = Serve::start(&["lower=:0?frame=line", "lower=:0"]);
    python(LOWER, &[&serve.at[0].port()], "").good();
    // A stream has no end of message to look at: each letter is mapped by itself, whether cut or not.
    let mut stream = Talk::to(serve.at[1]);
    for byte in "ΟΔΟΣ\n".bytes() {
        stream.send([byte]);
    }
    stream.expect_reply("οδοσ\n");
    stream.send("A\u{ff}".as_bytes().split_last().unwrap().1);
    assert_eq!(
        stream.finish(),
        b"a\xc3",
        "what was not finished passes as it is"
    );
    let home = serve.home.clone();
    serve.stop();
    assert_eq!(home.count(&["rep:οδος"]), 2);
}

#[test]
fn time_agrees_with_python() {
    let serve = Serve::start(&["time=:0"]);
    // RFC 868: seconds since 1900, 32 bits, most significant first.
    let expression = "
assert len(received) == 4, received
since_1900 = (datetime.date(1970, 1, 1) - datetime.date(1900, 1, 1)).days * 86400
reply = struct.unpack('>I', received)[0] - since_1900
assert int(before) <= reply <= after, (before, reply, after)
print(struct.unpack('>I', received)[0])
";
    let reply: u32 = receive_in_python(&serve, expression)
        .trim()
        .parse()
        .unwrap();
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 1);
    let hex = format!("hex:{reply:08x}");
    let found = home.log(&["svc:time", &hex]);
    assert_eq!(found.len(), 1, "the recorded reply is the one sent");
    assert_eq!(
        (&found[0]["req"]["len"], &found[0]["rep"]["len"]),
        (&json!(0), &json!(4))
    );
    assert_eq!(
        home.sql("SELECT reason FROM conversation"),
        ["service-closed"]
    );
}

#[test]
fn daytime_line_is_parsed_by_python() {
    let serve = Serve::start(&["daytime=:0"]);
    let expression = "
text = received.decode('ascii')
assert text.endswith('\\r\\n') and text.count('\\n') == 1, text
reply = datetime.datetime.fromisoformat(text.strip())
assert reply.tzinfo is not None, text
assert int(before) <= reply.timestamp() <= after, (before, text, after)
print(text.strip())
";
    let reply = receive_in_python(&serve, expression);
    let home = serve.home.clone();
    serve.stop();
    let found = home.log(&["svc:daytime"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["rep"]["text"], format!("{}\r\n", reply.trim()));
}

/// RFC 864: 72 of the 95 printable characters, each line one further.
const RECEIVE: &str = "
import socket, sys
ring = bytes(range(32, 127))
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30) as peer:
    stream = peer.makefile('rb')
    for n in range(2000):
        line = stream.readline()
        expected = bytes(ring[(n + i) % 95] for i in range(72)) + b'\\r\\n'
        assert line == expected, (n, line)
    if sys.argv[2] == 'half-close':
        # It may have sent more by now; then the end follows.
        peer.shutdown(socket.SHUT_WR)
        while stream.read1(65536):
            pass
";

#[test]
fn chargen_sends_the_rfc_pattern_until_the_peer_closes() {
    let serve = Serve::start(&["chargen=:0"]);
    for end in ["half-close", "leaves"] {
        python(RECEIVE, &[&serve.at[0].port(), &end], "").good();
    }
    let home = serve.home.clone();
    let ended = || home.sql("SELECT reason FROM conversation WHERE reason IS NOT NULL ORDER BY id");
    until("it has noticed both", || ended().len() == 2);
    let ended = ended();
    assert_eq!(
        ended[1], "peer-reset",
        "it went on sending after the peer had gone: {ended:?}"
    );
    assert!(
        ["peer-closed", "service-closed"].contains(&&*ended[0]),
        "{ended:?}"
    );
    serve.stop();
    // What was sent equals the recorded replies, less what was not taken.
    let sums = home.sql("SELECT sent + unsent >= 2000 * 74, sent >= 2000 * 74 FROM conversation");
    assert_eq!(sums, ["1|1", "1|1"]);
    assert_eq!(
        home.count(&["svc:chargen", "rep:!\"#$%&'()*+,-./0123456789"]),
        home.count(&["svc:chargen"])
    );
}

#[test]
fn chargen_to_a_peer_that_does_not_read_is_bounded() {
    let serve = Serve::start(&["chargen=:0?write-timeout=500ms", "echo=:0"]);
    let unread: Vec<Talk> = (0..8).map(|_| Talk::to(serve.at[0])).collect();
    let home = serve.home.clone();
    let ended = || home.sql("SELECT count(*) FROM conversation WHERE reason = 'write-timeout'");
    until("each was given up", || ended() == ["8"]);
    // Others are served meanwhile, and the server's memory has not grown by the unread bytes.
    Talk::to(serve.at[1]).ask("still here", "still here");
    let status = fs::read_to_string(format!("/proc/{}/status", serve.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 256 << 10, "{peak} kB at most");
    let most: u64 = home.sql("SELECT max(sent + unsent) FROM conversation")[0]
        .parse()
        .unwrap();
    assert!(
        most < 32 << 20,
        "{most} bytes were sent to a peer that reads none"
    );
    drop(unread);
}

/// Compares the reply with what the client knows of its own socket.
const ASK: &str = "
import json, socket, sys
for port, frame in [(int(sys.argv[1]), 'line'), (int(sys.argv[2]), 'chunk')]:
    with socket.create_connection(('127.0.0.1', port), 30) as peer:
        stream = peer.makefile('rwb')
        for n, request in enumerate([b'hello', 'ß'.encode(), b'\\xff\\x00\\x1b[31m'], 1):
            stream.write(request + b'\\n')
            stream.flush()
            reply = json.loads(stream.readline())
            host, own = peer.getsockname()
            assert reply['peer'] == f'{host}:{own}', reply
            assert reply['local'] == f'127.0.0.1:{port}', reply
            assert reply['frame'] == frame, reply
            assert reply['host'] == socket.gethostname(), reply
            message = reply['message']
            received = request if frame == 'line' else request + b'\\n'
            assert (message['n'], message['len']) == (n, len(received)), reply
            assert message['utf8'] == (n < 3), reply
            assert not any(ord(c) < 32 or ord(c) == 127 for c in message['shown']), reply
            assert n > 2 or request.decode() in message['shown'], reply
            print(reply['conv'], n, json.dumps(reply))
";

#[test]
fn info_reports_datagram_framing_over_udp() {
    const ASK: &str = "
import json, socket, sys
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(10)
peer.sendto(b'x', ('127.0.0.1', int(sys.argv[1])))
print(json.loads(peer.recv(65535))['frame'])
";
    let serve = Serve::start(&["info=udp://:0", "--udp-allow-amplification"]);
    let reply = python(ASK, &[&serve.at[0].port()], "").good();
    assert_eq!(reply, "datagram\n");
}

#[test]
fn info_is_valid_json_and_correct() {
    let serve = Serve::start(&["info=:0?frame=line", "info=:0"]);
    let reply = python(ASK, &[&serve.at[0].port(), &serve.at[1].port()], "").good();
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 6);
    assert_eq!(reply.lines().count(), 6, "{reply}");
    for line in reply.lines() {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (conv, n) = (format!("conv:{}", word()), format!("n:{}", word()));
        let reply: Value = serde_json::from_str(word()).unwrap();
        let logged = home.log(&["svc:info", &conv, &n]);
        assert_eq!(logged.len(), 1, "{conv} {n}");
        assert_eq!(logged[0]["peer"], reply["peer"]);
        let recorded: Value =
            serde_json::from_str(logged[0]["rep"]["text"].as_str().unwrap()).unwrap();
        assert_eq!(recorded, reply);
    }
}

#[test]
fn greet_sends_the_bytes_of_a_file() {
    let home = Arc::new(Home::new());
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(home.path().join("banner"), &bytes).unwrap();
    let serve = Serve::start_in(&home, &[":0", "--as", "greet:@banner"]);
    // The file is read once at the start; later changes do not affect the greeting.
    fs::write(home.path().join("banner"), "changed").unwrap();
    let mut talk = Talk::to(serve.at[0]);
    let mut received = Vec::new();
    talk.0.read_to_end(&mut received).unwrap();
    assert!(received == bytes, "{} bytes", received.len());
    assert_eq!(serve.stop().served, 1);
    let logged = home.log(&["svc:greet"]);
    assert_eq!(
        (logged.len(), &logged[0]["rep"]["len"]),
        (1, &json!(bytes.len()))
    );
    let ends = home.sql("SELECT reason, sent, unsent FROM conversation");
    assert_eq!(ends, ["service-closed|300000|0"]);

    let Ran { code, err, .. } = home.run(&["serve", ":0", "--as", "greet:@no-such-file"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("no-such-file") && err.contains("No such file"),
        "{err}"
    );
}

#[test]
fn unsolicited_output_uses_the_declared_framing() {
    let serve = Serve::start(&[
        "greet=:0?frame=u16be",
        "time=:0?frame=netstring",
        "chargen=:0?frame=u32be",
    ]);
    assert_eq!(
        Talk::to(serve.at[0]).rest(),
        b"\x00\x18Thank you for connecting"
    );
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let time = Talk::to(serve.at[1]).rest();
    let reply = time
        .strip_prefix(b"4:")
        .and_then(|rest| rest.strip_suffix(b","))
        .unwrap();
    let reply = u32::from_be_bytes(reply.try_into().unwrap());
    let since = reply.wrapping_sub((before + 2_208_988_800) as u32);
    assert!(since < 60, "{since} s from now");
    let mut chargen = Talk::to(serve.at[2]);
    let mut length = [0; 4];
    chargen.0.read_exact(&mut length).unwrap();
    let mut block = vec![0; u32::from_be_bytes(length) as usize];
    chargen.0.read_exact(&mut block).unwrap();
    assert!(block.starts_with(b" !\"#$%&'()") && block.ends_with(b"\r\n"));
}
