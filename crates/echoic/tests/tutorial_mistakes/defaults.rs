//! Default addresses, and the exact greeting.

use std::net::TcpStream;

use crate::{client, harness::Serve};

#[test]
fn d17_default_listens_only_on_loopback() {
    // Every address of 127/8 is local; a server on loopback listens on one of them.
    let here = Serve::start(&[":0", "*:0"]);
    let (ours, any) = (here.at[0].port(), here.at[1].port());
    assert!(TcpStream::connect(("127.0.0.1", ours)).is_ok());
    assert!(TcpStream::connect(("127.0.0.2", ours)).is_err());
    assert!(TcpStream::connect(("127.0.0.2", any)).is_ok());
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert!(TcpStream::connect(("::1", ours)).is_ok());
        assert!(TcpStream::connect(("::1", any)).is_ok());
    }
}

#[test]
fn d18_greeting_is_sent_exactly() {
    let program = "got = b''\nwhile more := c.recv(99): got += more\nprint(got)";
    for (service, expected) in [
        ("greet", "b'Thank you for connecting'\n"),
        ("greet:Hi\\n\\x00", "b'Hi\\n\\x00'\n"),
    ] {
        let serve = Serve::start(&[":0", "--as", service]);
        assert_eq!(client(serve.at[0].port(), program), expected);
    }
}
