//! A name server that says what a test wants it to say (RFC 1035): nothing, an error, too late.

use std::{
    net::{IpAddr, UdpSocket},
    thread,
    time::Duration,
};

use super::network::RESOLVER;

/// What is said to one question.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// These addresses, of the kind that was asked for.
    Addresses(Vec<IpAddr>),
    /// The name is another's, these bytes long as one label, and that has these addresses.
    Alias(&'static [u8], Vec<IpAddr>),
    /// The name is there and has no such record.
    NoRecord,
    /// An error: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// Nothing.
    Nothing,
    /// These addresses, after a while.
    Late(Duration, Vec<IpAddr>),
}

/// A name, and what is said of it when asked for AAAA and for A. Other names are not there.
pub(crate) type Zone = Vec<(&'static str, Say, Say)>;

/// How long records may be kept, in seconds.
pub(crate) const TTL: u32 = 77;

/// Answers from now on, until the process ends.
pub(crate) fn serve(zone: Zone) {
    let socket = UdpSocket::bind((RESOLVER, 53)).unwrap();
    thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((len, peer)) = socket.recv_from(&mut question) {
            let Some((name, kind, asked)) = parse(&question[..len]) else {
                continue;
            };
            let said = zone
                .iter()
                .find(|(known, ..)| name.eq_ignore_ascii_case(known));
            let say = match (said, kind) {
                (Some((_, six, _)), AAAA) => six.clone(),
                (Some((_, _, four)), A) => four.clone(),
                (Some(_), _) => Say::NoRecord,
                (None, _) => Say::Code(3),
            };
            let Some(reply) = reply(asked, &say) else {
                continue;
            };
            if let Say::Late(by, _) = say {
                let socket = socket.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(by);
                    socket.send_to(&reply, peer)
                });
            } else {
                socket.send_to(&reply, peer).unwrap();
            }
        }
    });
}

const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;

/// The name asked for, the kind of record, and header and question as they came.
fn parse(packet: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut at = 12;
    let mut labels = vec![];
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + len)?).into_owned());
        at += len;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, packet.get(..at + 4)?))
}

fn reply(asked: &[u8], say: &Say) -> Option<Vec<u8>> {
    let (code, alias, addrs): (u8, Option<&[u8]>, &[IpAddr]) = match say {
        Say::Nothing => return None,
        Say::Code(code) => (*code, None, &[]),
        Say::NoRecord => (0, None, &[]),
        Say::Addresses(addrs) | Say::Late(_, addrs) => (0, None, addrs),
        Say::Alias(alias, addrs) => (0, Some(alias), addrs),
    };
    let count = u16::try_from(addrs.len() + usize::from(alias.is_some())).unwrap();
    let mut reply = asked.to_vec();
    // A response, recursion desired and available; one question, the answers, nothing else.
    reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    reply[4..12].copy_from_slice(&[
        0,
        1,
        count.to_be_bytes()[0],
        count.to_be_bytes()[1],
        0,
        0,
        0,
        0,
    ]);
    let mut record = |owner: &[u8], kind: u16, data: &[u8]| {
        reply.extend(owner);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(TTL.to_be_bytes());
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    };
    // The question's name, where it stands in the packet.
    let mut owner = vec![0xc0, 12];
    if let Some(alias) = alias {
        let mut name = vec![u8::try_from(alias.len()).unwrap()];
        name.extend(alias);
        name.push(0);
        record(&owner, CNAME, &name);
        owner = name;
    }
    for addr in addrs {
        match addr {
            IpAddr::V4(addr) => record(&owner, A, &addr.octets()),
            IpAddr::V6(addr) => record(&owner, AAAA, &addr.octets()),
        }
    }
    Some(reply)
}
