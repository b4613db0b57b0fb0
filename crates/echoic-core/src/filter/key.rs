//! The keys of the language.

use strsim::osa_distance;

use super::expr::Side;

/// What the word before a colon asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Text(Side),
    Hex,
    Peer,
    Port,
    Endpoint,
    Protocol,
    Service,
    Role,
    Server,
    Sni,
    Tls,
    Latency,
    Size,
    After,
    Before,
    Is,
    End,
    Id,
    Conversation,
    Number,
    Tag,
    Note,
    Sort,
    Limit,
}

/// Values of the keys of times.
const MOMENT: &str = "how long ago, or a time: 10m, 2d, 13:55, today, yesterday, 2026-08-01, 2026-08-01T12:00 or 2026-08-01T12:00Z";

/// Each key with a description of its values for error texts. A key of `None` is reserved: a filter that uses it is an
/// error, so that it can get a meaning later.
pub(super) const KEYS: [(&str, Option<Key>, &str); 29] = [
    (
        "req",
        Some(Key::Text(Side::Request)),
        "text to find in the request: req:hello or req:\"two words\"",
    ),
    (
        "rep",
        Some(Key::Text(Side::Reply)),
        "text to find in the reply: rep:HELLO or rep:\"two words\"",
    ),
    (
        "any",
        Some(Key::Text(Side::Any)),
        "text to find in either: any:hello or any:\"two words\"",
    ),
    (
        "hex",
        Some(Key::Hex),
        "at most 256 bytes as pairs of hexadecimal digits, ?? for any: hex:1b5b??6d or hex:'1b 5b'",
    ),
    (
        "peer",
        Some(Key::Peer),
        "an address, a network, or an address with its port: 127.0.0.1, 10.0.0.0/8, [::1]:4000",
    ),
    (
        "port",
        Some(Key::Port),
        "a port or a range of them, up to 65535: 5000 or 5000..5010",
    ),
    ("ep", Some(Key::Endpoint), "an endpoint: ep:tcp:5000"),
    (
        "proto",
        Some(Key::Protocol),
        "one of tcp udp unix unixgram tls ws wss",
    ),
    ("svc", Some(Key::Service), "a service: svc:upper"),
    ("role", Some(Key::Role), "one of server client"),
    (
        "server",
        Some(Key::Server),
        "the id or the name of a server: server:web-1:4242",
    ),
    (
        "sni",
        Some(Key::Sni),
        "the server name that a TLS client asked for: sni:localhost",
    ),
    (
        "tls",
        Some(Key::Tls),
        "a version of TLS or a cipher suite: tls:1.3 or tls:TLS13_AES_256_GCM_SHA384",
    ),
    (
        "lat",
        Some(Key::Latency),
        "a duration or a range of them: >5ms, 1.5s or 1ms..5ms",
    ),
    (
        "size",
        Some(Key::Size),
        "a size or a range of them: >1k, 17 or 1k..1.5M",
    ),
    ("since", Some(Key::After), MOMENT),
    ("after", Some(Key::After), MOMENT),
    ("before", Some(Key::Before), MOMENT),
    (
        "is",
        Some(Key::Is),
        "one of ok unanswered unsent withheld unpaired open closed half reset truncated timeout limit drain error binary utf8 http tls",
    ),
    (
        "end",
        Some(Key::End),
        "one of fin rst timeout limit drain store error",
    ),
    (
        "id",
        Some(Key::Id),
        "a number or a range of them: 17, >1000 or 17..40",
    ),
    (
        "conv",
        Some(Key::Conversation),
        "a number or a range of them: 17, >1000 or 17..40",
    ),
    (
        "n",
        Some(Key::Number),
        "a number or a range of them, the first message being 1: 1 or 2..5",
    ),
    ("tag", Some(Key::Tag), "a tag: tag:bug"),
    (
        "note",
        Some(Key::Note),
        "text to find in the note: note:hello or note:\"two words\"",
    ),
    (
        "sort",
        Some(Key::Sort),
        "one of lat id size t, with - in front for the largest first: sort:-lat",
    ),
    ("limit", Some(Key::Limit), "a number from 1: limit:20"),
    ("fault", None, ""),
    ("msgs", None, ""),
];

/// Keys whose values are numbers or ranges of them, such as `>5`.
pub(super) const RANGE_KEYS: [&str; 6] = ["port", "lat", "size", "id", "conv", "n"];

/// Words of `is:` that are kept for what is not recorded yet.
pub(super) const LATER_STATES: [&str; 3] = ["fault", "marked", "replayed"];

/// What people call these things elsewhere.
const ELSEWHERE: [(&str, &str); 23] = [
    ("request", "req"),
    ("in", "req"),
    ("reply", "rep"),
    ("response", "rep"),
    ("res", "rep"),
    ("out", "rep"),
    ("text", "any"),
    ("bytes", "hex"),
    ("ip", "peer"),
    ("from", "peer"),
    ("src", "peer"),
    ("host", "peer"),
    ("client", "peer"),
    ("endpoint", "ep"),
    ("protocol", "proto"),
    ("service", "svc"),
    ("latency", "lat"),
    ("until", "before"),
    ("state", "is"),
    ("outcome", "is"),
    ("conversation", "conv"),
    ("label", "tag"),
    ("comment", "note"),
];

/// The key of that name.
pub(super) fn find(name: &str) -> Option<(&'static str, Option<Key>, &'static str)> {
    KEYS.iter().find(|(known, ..)| *known == name).copied()
}

/// The key that somebody who wrote `name` most likely meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if !name.is_ascii() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    if let Some((_, key)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name) {
        return Some(key);
    }
    let near = name.len().div_ceil(2).min(2);
    let usable = KEYS.iter().filter(|(_, key, _)| key.is_some());
    usable
        .map(|(known, ..)| (osa_distance(&name, known), *known))
        .filter(|(distance, known)| *distance <= near && *distance < name.len().max(known.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The word that somebody who wrote `found` most likely meant, if the description of the values lists words: `one of open closed`.
pub(super) fn nearest_word<'a>(wants: &'a str, found: &str) -> Option<&'a str> {
    let (_, words) = wants.split_once("one of ")?;
    let found = found.to_ascii_lowercase();
    let near = found.len().div_ceil(2).min(2);
    words
        .split(' ')
        .map(|word| (osa_distance(&found, word), word))
        .filter(|(distance, word)| *distance <= near && *distance < found.len().max(word.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        event::{Protocol, Role},
        filter::expr::{EndClass, SortKey, State},
    };

    #[rstest]
    #[case("per", Some("peer"))]
    #[case("Peer", Some("peer"))]
    #[case("pere", Some("peer"))]
    #[case("latency", Some("lat"))]
    #[case("ltа", None)]
    #[case("lta", Some("lat"))]
    #[case("reqq", Some("req"))]
    #[case("conversation", Some("conv"))]
    #[case("http", None)]
    #[case("x", None)]
    #[case("averyveryverylongword", None)]
    fn misspelled_key_suggests_the_nearest(#[case] typed: &str, #[case] meant: Option<&str>) {
        assert_eq!(nearest(typed), meant);
    }

    #[rstest]
    #[case("is", "opne", Some("open"))]
    #[case("is", "Unanswered", Some("unanswered"))]
    #[case("proto", "udq", Some("udp"))]
    #[case("is", "x", None)]
    #[case("is", "somethingelse", None)]
    #[case("lat", "5mss", None)]
    fn misspelled_word_suggests_the_nearest(
        #[case] key: &str,
        #[case] typed: &str,
        #[case] meant: Option<&str>,
    ) {
        assert_eq!(nearest_word(find(key).unwrap().2, typed), meant);
    }

    #[test]
    fn key_description_lists_every_accepted_word() {
        let listed = |name| {
            find(name)
                .unwrap()
                .2
                .split_once("one of ")
                .unwrap()
                .1
                .to_owned()
        };
        let words = |words: &[&str]| words.join(" ");
        assert_eq!(
            listed("is"),
            words(&State::ALL.iter().map(|w| w.word()).collect::<Vec<_>>())
        );
        assert_eq!(
            listed("end"),
            words(&EndClass::ALL.iter().map(|w| w.word()).collect::<Vec<_>>())
        );
        let protocols: Vec<_> = Protocol::ALL.iter().map(|w| w.word()).collect();
        assert_eq!(listed("proto"), words(&protocols));
        let roles: Vec<_> = Role::ALL.iter().map(|w| w.word()).collect();
        assert_eq!(listed("role"), words(&roles));
        let keys = words(&SortKey::ALL.iter().map(|w| w.word()).collect::<Vec<_>>());
        assert!(listed("sort").starts_with(&keys));
        for (elsewhere, key) in ELSEWHERE {
            assert!(
                find(key).is_some() && find(elsewhere).is_none(),
                "{elsewhere}"
            );
        }
    }
}
