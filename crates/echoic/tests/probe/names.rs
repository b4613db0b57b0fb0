//! A name server with configured replies (RFC 1035): addresses, none at all, an error, or late ones.

use std::{
    net::{IpAddr, UdpSocket},
    thread,
    time::Duration,
};

use super::network::RESOLVER;

/// The reply to one question.
#[derive(Clone, Debug)]
pub(crate) enum DnsReply {
    /// These addresses, of the requested type.
    Addresses(Vec<IpAddr>),
    /// A CNAME of one label with these bytes, and its addresses.
    Alias(&'static [u8], Vec<IpAddr>),
    /// The name exists without a record of this type (NODATA).
    NoRecord,
    /// An error: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// No reply.
    Nothing,
    /// These addresses, after a delay.
    Late(Duration, Vec<IpAddr>),
}

/// A name, and its replies to AAAA and A. Other names do not exist.
pub(crate) type Zone = Vec<(&'static str, DnsReply, DnsReply)>;

/// TTL of the records, in seconds.
pub(crate) const TTL: u32 = 77;

/// Starts to answer, until the process ends.
pub(crate) fn serve(zone: Zone) {
    let socket = UdpSocket::bind((RESOLVER, 53)).unwrap();
    thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((len, peer)) = socket.recv_from(&mut question) {
            let Some((name, kind, asked)) = parse(&question[..len]) else {
                continue;
            };
            let entry = zone
                .iter()
                .find(|(known, ..)| name.eq_ignore_ascii_case(known));
            let answer = match (entry, kind) {
                (Some((_, six, _)), AAAA) => six.clone(),
                (Some((_, _, four)), A) => four.clone(),
                (Some(_), _) => DnsReply::NoRecord,
                (None, _) => DnsReply::Code(3),
            };
            let Some(reply) = reply(asked, &answer) else {
                continue;
            };
            if let DnsReply::Late(by, _) = answer {
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

/// Returns the name and type of the question, and header and question as received.
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

fn reply(asked: &[u8], answer: &DnsReply) -> Option<Vec<u8>> {
    let (code, alias, addrs): (u8, Option<&[u8]>, &[IpAddr]) = match answer {
        DnsReply::Nothing => return None,
        DnsReply::Code(code) => (*code, None, &[]),
        DnsReply::NoRecord => (0, None, &[]),
        DnsReply::Addresses(addrs) | DnsReply::Late(_, addrs) => (0, None, addrs),
        DnsReply::Alias(alias, addrs) => (0, Some(alias), addrs),
    };
    let count = u16::try_from(addrs.len() + usize::from(alias.is_some())).unwrap();
    let mut reply = asked.to_vec();
    // Flags: a response, recursion desired and available; one question, the answers, nothing else.
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
    // A pointer to the question's name in the packet (RFC 1035, 4.1.4).
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
