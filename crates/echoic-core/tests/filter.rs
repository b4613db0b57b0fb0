//! Tests of the filter language: matching, errors, limits, printing, and invariants.

use std::sync::Arc;

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{Address, EndpointInfo, Outcome, Protocol, Role, ServerId, ServerInfo, TlsInfo},
    exchange::{Conversation, Exchange},
    filter::{Atom, Expr, Filter, FilterError, Matcher, Ranges, Side, Sort, SortKey, check},
    framing::Framing,
    store::Labels,
};
use proptest::prelude::*;
use rstest::rstest;

/// 2026-11-22T12:04:06.998113Z
const AT: i64 = 1_795_349_046_998_113;
const MINUTE: i64 = 60_000_000;

fn conversation() -> Conversation {
    Conversation {
        id: 40_871,
        opened: AT - MINUTE,
        remote: Address::Net(([10, 1, 2, 3], 51_422).into()),
        local: Address::Net(([127, 0, 0, 1], 5000).into()),
        role: Role::Server,
        server: Arc::new(ServerInfo {
            id: ServerId(0xfe),
            name: "web-1:4242".to_owned(),
            started: AT - 2 * MINUTE,
        }),
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".to_owned(),
            proto: Protocol::Tcp,
            service: "greet:Hello you".to_owned(),
            framing: Framing::Line.into(),
        }),
        half_closed: None,
        ended: None,
        labels: Labels::default(),
        tls: Some(Arc::new(TlsInfo {
            version: Some("1.3".to_owned()),
            cipher: Some("TLS13_AES_128_GCM_SHA256".to_owned()),
            sni: Some("db.example".to_owned()),
            ..TlsInfo::default()
        })),
    }
}

fn exchange() -> Exchange {
    Exchange {
        id: 481_120,
        conversation: Arc::new(conversation()),
        n: 2,
        at: AT,
        latency_ns: 82_114,
        outcome: Outcome::Ok,
        reads: 1,
        request: "Die Straße\r\n".into(),
        reply: b"an (odd) reply: \"quoted\", \x1b[2J \xff\n".to_vec(),
        labels: Labels::default(),
    }
}

fn matches(text: &str, exchange: &Exchange) -> bool {
    check(text, exchange, AT);
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    filter.matches(exchange, AT)
}

#[rstest]
#[case::nothing("", true)]
#[case::word("STRASSE", false)]
#[case::word("straße", true)]
#[case::word("reply", true)]
#[case::word("absent", false)]
#[case::phrase("\"odd) reply\"", true)]
#[case::parentheses_in_a_word("(odd)", true)]
#[case::parentheses_in_a_word("rep:(odd)", true)]
#[case::quote_in_a_phrase(r#""\"quoted\",""#, true)]
#[case::escape(r"\x1b[2J", true)]
#[case::escape(r#""die straße\r\n""#, true)]
#[case::invalid_utf8(r"\xff", true)]
#[case::side("req:reply", false)]
#[case::side("rep:reply", true)]
#[case::side("any:reply", true)]
#[case::list("req:absent,die", true)]
#[case::list("req:absent,\"e s\"", true)]
#[case::regex("req~^Die.Stra", true)]
#[case::regex("req~^die", false)]
#[case::regex("(req~(?i)^(die|das).*ße$)", true)]
#[case::regex(r#"rep~"reply: \"q\w+\"""#, true)]
#[case::regex("any~absent", false)]
#[case::hex("hex:1b5b??4A", true)]
#[case::hex("hex:\"1b 5b\",0000", true)]
#[case::hex("hex:0x1B5B", true)]
#[case::hex("hex:1b:5b", true)]
#[case::hex("hex:'1b 5b'", true)]
#[case::hex("hex:\"1b,5b\" -hex:'1b 5c',0000", true)]
#[case::hex("hex:1b5c", false)]
#[case::peer("peer:10.0.0.0/8", true)]
#[case::peer("peer:10.1.2.3:51422", true)]
#[case::peer("peer:[::1]:51422,::1,10.1.2.4", false)]
#[case::port("port:5000", true)]
#[case::port("port:1..4999,5001..", false)]
#[case::endpoint("ep:tcp:5000", true)]
#[case::endpoint("ep:\"tcp:5000\"", true)]
#[case::endpoint("ep:tcp:500", false)]
#[case::protocol("proto:udp,tcp", true)]
#[case::protocol("proto:udp", false)]
#[case::service("svc:greet", true)]
#[case::service("svc:\"greet:Hello you\"", true)]
#[case::service("svc:upper", false)]
#[case::role("role:server", true)]
#[case::role("role:client", false)]
#[case::role("role:client,server", true)]
#[case::server("server:web-1:4242", true)]
#[case::server("server:00000000000000fe", true)]
#[case::server("server:web-1,00000000000000ff", false)]
#[case::sni("sni:db.example", true)]
#[case::sni("sni:DB.EXAMPLE,other", true)]
#[case::sni("sni:example", false)]
#[case::tls("tls:1.3", true)]
#[case::tls("tls:1.2,tls13_aes_128_gcm_sha256", true)]
#[case::tls("tls:1.2", false)]
#[case::latency("lat:82us", true)]
#[case::latency("lat:>82us", true)]
#[case::latency("lat:<82us", false)]
#[case::latency("lat:1ms..5ms", false)]
#[case::size("size:46", true)]
#[case::size("size:>1k", false)]
#[case::time("since:0s", true)]
#[case::time("before:1us", false)]
#[case::time("after:2026-11-22 before:2026-11-23", true)]
#[case::time("after:2026-11-22T12:04:06.998113Z", true)]
#[case::time("before:2026-11-22T12:04:06.998113Z", false)]
#[case::time("before:\"2026-11-22 12:05\"", true)]
#[case::state("is:ok", true)]
#[case::state("is:unanswered,unsent", false)]
#[case::state("is:open", true)]
#[case::state("is:closed", false)]
#[case::state("is:half", false)]
#[case::state("is:binary", true)]
#[case::state("is:utf8", false)]
#[case::state("is:http", false)]
#[case::ending("end:fin,rst,timeout,limit,drain,store,error", false)]
#[case::ids("id:481120 conv:c40871 n:2", true)]
#[case::ids("id:1..9,481120", true)]
#[case::ids("n:>2", false)]
#[case::not("-straße", false)]
#[case::not("!absent -req:absent,reply", true)]
#[case::not("-(straße absent)", true)]
#[case::and("straße AND reply", true)]
#[case::and("straße absent", false)]
#[case::or("absent OR straße", true)]
#[case::precedence("absent straße OR reply", true)]
#[case::precedence("absent (straße OR reply)", false)]
#[case::precedence("(absent)OR(straße)", true)]
#[case::precedence("-absent OR absent absent", true)]
#[case::not_a_key("10.1:5", false)]
#[case::dash_inside("a-b OR straße", true)]
#[case::modifiers("limit:3 straße sort:-lat", true)]
fn filter_matches_as_documented(#[case] text: &str, #[case] is_match: bool) {
    assert_eq!(matches(text, &exchange()), is_match);
}

#[test]
fn outcome_and_ending_filters_match() {
    let (mut exchange, mut conversation) = (exchange(), conversation());
    exchange.outcome = Outcome::Unsent;
    exchange.reply = b"fine".to_vec();
    conversation.half_closed = Some(AT);
    exchange.conversation = Arc::new(conversation.clone());
    assert!(matches("is:unsent is:half is:utf8 -is:ok", &exchange));
    let endings = [
        (CloseReason::PeerClosed, "end:fin -is:error"),
        (CloseReason::PeerReset, "end:rst is:reset"),
        (CloseReason::WriteTimeout, "end:timeout is:timeout"),
        (CloseReason::MessageTooLong, "end:limit is:limit"),
        (CloseReason::DrainTimeout, "end:drain is:drain"),
        (CloseReason::StoppedAtOnce, "end:drain is:drain"),
        (CloseReason::StoreFailed, "end:store -is:error"),
        (CloseReason::ServiceFailed, "end:error is:error"),
    ];
    for (reason, text) in endings {
        let ending = Ending {
            reason,
            received: 0,
            sent: 0,
            unsent: 0,
            discarded: 0,
            left_over: None,
        };
        conversation.ended = Some((AT, ending));
        exchange.conversation = Arc::new(conversation.clone());
        assert!(matches(text, &exchange), "{reason:?}: {text}");
        assert!(matches("is:closed -is:open -is:half", &exchange));
    }
}

#[rstest]
#[case("per:1.2.3.4", 1, "did you mean peer:?")]
#[case("upper http://x", 7, "expected one of req: rep:")]
#[case("upper http://x", 7, "put it in quotes")]
#[case("a THEN", 3, "THEN needs a condition on both sides")]
#[case("THEN a", 1, "THEN needs a condition on both sides")]
#[case("a THEN THEN b", 3, "THEN needs a condition on both sides")]
#[case("a OR THEN b", 3, "OR needs a condition on both sides")]
#[case("a THEN limit:3", 3, "THEN needs a condition on both sides")]
#[case(
    "(a THEN b)",
    4,
    "THEN joins whole filters; it is not allowed within parentheses"
)]
#[case("c -(a THEN b)", 7, "not allowed within parentheses")]
#[case("tag:", 5, "missing value for tag:")]
#[case("label:x", 1, "did you mean tag:?")]
#[case("note:\"\"", 7, "missing value for note:")]
#[case("fault:delay", 1, "fault: is not supported yet")]
#[case("is:marked", 4, "is:marked is not supported yet")]
#[case("is:opne", 4, "one of ok unanswered unsent withheld unpaired open")]
#[case("end:peer", 5, "one of fin rst timeout")]
#[case("proto:sctp", 7, "one of tcp udp")]
#[case("role:observer", 6, "one of server client")]
#[case("svc:connect", 5, "role:client finds what a client recorded")]
#[case("-svc:upper,connect", 12, "role:client finds what a client recorded")]
#[case("peer:localhost", 6, "10.0.0.0/8")]
#[case("peer:1.2.3.4,x", 14, "invalid peer:x: expected an address")]
#[case("port:70000", 6, "up to 65535")]
#[case("lat:>5x", 5, "invalid lat:>5x: expected a duration")]
#[case("size:1.5", 6, "invalid size:1.5: expected a size")]
#[case("id:9..3", 4, "empty range \"9..3\"; write the smaller number first")]
#[case("hex:1", 5, "invalid hex:1: expected at most 256 bytes")]
#[case("hex:'ff f'", 6, "invalid hex:\"ff f\": expected at most 256 bytes")]
#[case("hex:'ff", 5, "not closed")]
#[case("since:tomorrow", 7, "10m, 2d, 13:55, today, yesterday, 2026-08-01")]
#[case("since:yesterday", 7, "yesterday needs the current day")]
#[case("before:13:55", 8, "13:55 needs the current day")]
#[case("svc:upper lat: x", 15, "put the key and its value in quotes")]
#[case("since:1d,2d", 10, "one value")]
#[case("req: hello", 5, "no space after the colon")]
#[case("id:1,,2", 6, "missing value for id:; expected")]
#[case(
    "peer~10",
    1,
    "peer~ is not supported; regular expressions follow req~"
)]
#[case("req~", 1, "missing regular expression after req~")]
#[case("req~(a b", 5, "unclosed group")]
#[case(r"a\d", 2, "invalid escape")]
#[case("a OR", 3, "needs a condition on both sides")]
#[case("OR a", 1, "needs a condition on both sides")]
#[case("a OR OR b", 3, "needs a condition on both sides")]
#[case("a AND", 3, "needs a condition on both sides")]
#[case("(AND b)", 2, "needs a condition on both sides")]
#[case("a AND AND b", 7, "needs a condition on both sides")]
#[case("NOT a", 1, "negate with a sign")]
#[case("a - b", 3, "missing condition after the sign")]
#[case("--a", 1, "two signs in a row")]
#[case("(a limit:3)", 4, "not allowed within parentheses")]
#[case("-sort:lat", 2, "or after a sign")]
#[case("sort:lat sort:id", 10, "given twice")]
#[case("sort:name", 6, "one of lat id size t")]
#[case("limit:0", 7, "a number from 1")]
#[case("a OR limit:3", 3, "needs a condition on both sides")]
#[case("a ()", 3, "empty parentheses")]
#[case("a (b", 3, "not closed")]
#[case("é a)", 4, "was not opened")]
#[case("\"a", 1, "not closed")]
#[case("\"\"", 2, "empty quotation marks")]
#[case("\"a\"b", 3, "missing space")]
fn invalid_filter_is_rejected_with_a_reason(
    #[case] text: &str,
    #[case] column: usize,
    #[case] why: &str,
) {
    check(text, &exchange(), AT);
    let error = Filter::parse(text).unwrap_err();
    assert!(error.message().contains(why), "{error}");
    assert_eq!(error.column(), column, "{error}");
}

#[test]
fn filter_error_marks_the_position() {
    let error_of = |text: &str| Filter::parse(text).unwrap_err().to_string();
    assert_eq!(
        error_of("straße per:10.0.0.0/8 rep:x"),
        "unknown key per:; did you mean peer:? To search for it as text, put it in quotes\n\
         \x20 straße per:10.0.0.0/8 rep:x\n\
         \x20        ^^^^"
    );
    let long = error_of(&format!(
        "{} lat:soon {}",
        "é".repeat(9000),
        "x".repeat(9000)
    ));
    assert!(
        long.lines().all(|line| line.chars().count() < 200),
        "{long}"
    );
    assert!(
        long.contains("  …éé") && long.contains("lat:soon xx") && long.contains("…(+"),
        "{long}"
    );
    let hostile = error_of("lat:\x1b[2J\u{202e}");
    assert!(!hostile.contains(['\x1b', '\u{202e}']), "{hostile}");
}

#[test]
fn filter_size_and_depth_are_bounded() {
    let error_of = |text: String| Filter::parse(&text).unwrap_err().message();
    let too_deep = "nested too deeply; the limit is 64";
    let too_many = "too many conditions; the limit is 256";
    assert!(error_of("x".repeat((64 << 10) + 1)).contains("too long"));
    assert!(error_of("(".repeat(60_000)).contains(too_deep));
    assert!(error_of("-(".repeat(30_000)).contains(too_deep));
    assert!(error_of("x ".repeat(257)).contains(too_many));
    assert!(error_of(format!("req:{}", "x,".repeat(256) + "x")).contains(too_many));
    assert!(
        error_of("any~x ".repeat(33)).contains("too many regular expressions; the limit is 32")
    );
    assert!(
        error_of(format!("id:{}", "1,".repeat(5000)))
            .contains("too many values in lists; the limit is 4096")
    );

    let deepest = format!("{}x{}", "-(a OR (".repeat(32), "))".repeat(32));
    let most = "x ".repeat(256);
    let ids = format!(
        "id:{}",
        (0..4096)
            .map(|n| (2 * n).to_string())
            .collect::<Vec<_>>()
            .join(",")
    );
    for text in [&deepest, &most, &ids] {
        check(text, &exchange(), AT);
        Filter::parse(text).unwrap();
    }
}

#[test]
fn tags_and_notes_are_of_the_exchange_or_its_conversation() {
    let labels = |tag: &str, note: &str| Labels {
        tags: vec![tag.to_owned()],
        note: Some(note.to_owned()),
    };
    let mut labelled = exchange();
    labelled.labels = labels("bug", "Seen at NOON");
    let of_conversation = Conversation {
        labels: labels("slow", "the tester"),
        ..conversation()
    };
    labelled.conversation = Arc::new(of_conversation);
    for text in [
        "tag:bug",
        "tag:slow",
        "tag:x,bug",
        "note:noon",
        "note:\"at noon\"",
        "note:TESTER",
        "-tag:x",
    ] {
        assert!(matches(text, &labelled), "{text}");
        assert_eq!(matches(text, &exchange()), text == "-tag:x", "{text}");
    }
    assert!(!matches("tag:bu", &labelled) && !matches("tag:BUG", &labelled));
    assert!(
        !matches("tester", &labelled),
        "a word searches request and reply"
    );
    let http = Exchange {
        request: b"GET / HTTP/1.1\r\n".into(),
        ..exchange()
    };
    assert!(matches("tag:http", &http));
}

#[test]
fn sequence_prints_as_it_parses() {
    for text in [
        "a THEN b",
        "a OR b THEN c d",
        "req:login THEN -is:ok THEN rep:ERROR sort:-lat limit:3",
    ] {
        assert_eq!(Filter::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(
        Filter::parse("a sort:lat THEN b").unwrap().to_string(),
        "a THEN b sort:lat"
    );
    assert_eq!(Filter::parse("\"THEN\"").unwrap().steps().len(), 0);
}

#[rstest]
#[case("  a   AND b ", "a b")]
#[case("!a", "-a")]
#[case("-(-a)", "a")]
#[case("((a b) c)", "a b c")]
#[case("(a OR b) OR c", "a OR b OR c")]
#[case("(a OR b) c", "(a OR b) c")]
#[case("req:x,\"y z\"", "req:x OR req:\"y z\"")]
#[case("-req:x,y", "-(req:x OR req:y)")]
#[case("id:3,1,2,#9", "id:1..3,9")]
#[case("lat:1000us,>5ms", "lat:1000us,>5ms")]
#[case("size:>=1024", "size:>=1k")]
#[case("peer:10.9.9.9/8,::ffff:1.2.3.4", "peer:1.2.3.4,10.0.0.0/8")]
#[case("after:2026-08-01T14:00+02:00", "since:2026-08-01T12:00:00Z")]
#[case("since:2026-08-01  14:00", "since:2026-08-01T14:00:00Z")]
#[case("(since:2026-08-01 14:00+02:00) x", "since:2026-08-01T12:00:00Z x")]
#[case("since:2026-08-01 14:00-03:00 x", "since:2026-08-01T17:00:00Z x")]
#[case("-since:2026-08-01 14:00 x", "-since:2026-08-01T14:00:00Z x")]
#[case("since:2026-08-01 \"14:00\"", "since:2026-08-01T00:00:00Z \"14:00\"")]
#[case("since:\"2026-08-01\" 14:00", "since:2026-08-01T00:00:00Z \"14:00\"")]
#[case("since:2026-08-01 14:00x", "since:2026-08-01T00:00:00Z \"14:00x\"")]
#[case("since:2026-08-01T13:00 14:00", "since:2026-08-01T13:00:00Z \"14:00\"")]
#[case("ep:2026-08-01 14:00", "ep:2026-08-01 \"14:00\"")]
#[case(
    "\"OR\" \"-x\" \"a:b\" \"x y\" \"x\"",
    "\"OR\" \"-x\" \"a:b\" \"x y\" x"
)]
#[case(r#"rep~"a \"b\" \\d""#, r#"rep~"a \"b\" \\d""#)]
#[case("limit:5 a sort:-t", "a sort:-t limit:5")]
fn filter_prints_in_canonical_form(#[case] text: &str, #[case] printed: &str) {
    check(text, &exchange(), AT);
    assert_eq!(Filter::parse(text).unwrap().to_string(), printed);
}

#[test]
fn sort_and_limit_are_separate_from_the_expression() -> Result<(), FilterError> {
    let filter = Filter::parse("sort:-lat limit:20")?;
    assert_eq!(
        filter.sort(),
        Some(Sort {
            key: SortKey::Latency,
            descending: true
        })
    );
    assert_eq!((filter.limit(), filter.expr()), (Some(20), &Expr::All));
    Ok(())
}

#[test]
fn index_bounds_follow_from_the_filter() -> Result<(), FilterError> {
    let ids = |text: &str| Filter::parse(text).map(|filter| filter.ids());
    let of = |ranges: &[(u64, u64)]| ranges.iter().map(|&(a, b)| a..=b).collect::<Ranges>();
    assert_eq!(ids("id:1..9 x id:>5")?, of(&[(6, 9)]));
    assert_eq!(ids("id:1 OR (id:7 x)")?, of(&[(1, 1), (7, 7)]));
    assert_eq!(ids("id:1 OR x")?, Ranges::all());
    assert_eq!(ids("-(id:<5 OR x)")?, of(&[(5, u64::MAX)]));
    assert_eq!(ids("id:1 id:2")?, Ranges::none());
    assert_eq!(Filter::parse("conv:3,4 x")?.conversations(), of(&[(3, 4)]));

    let times = |text: &str| Filter::parse(text).map(|filter| filter.times(AT));
    assert_eq!(times("since:1m")?, Some(AT - MINUTE..=i64::MAX));
    assert_eq!(
        times("since:2m before:1m x")?,
        Some(AT - 2 * MINUTE..=AT - MINUTE - 1)
    );
    assert_eq!(times("-since:1m")?, Some(i64::MIN..=AT - MINUTE - 1));
    assert_eq!(times("since:1m before:2m")?, None);

    let filter = Filter::parse("ep:tcp:5000 (x OR svc:upper) -(y peer:::1) -(z OR n:1)")?;
    let part = filter.necessary(|atom| !matches!(atom, Atom::Text(..)));
    assert_eq!(part.to_string(), "ep:tcp:5000 -n:1");
    Ok(())
}

fn condition() -> impl Strategy<Value = String> {
    let small = || 0..4_u64;
    prop_oneof![
        prop::sample::select(vec![
            "a",
            "req:A",
            "rep:b,\"c d\"",
            "any:é",
            "\"a b\"",
            r#""\"\\\x00""#,
            "req~^a",
            "rep~\"(b|c) \\d?\"",
            "hex:61",
            "hex:6?,61??",
            "peer:10.0.0.0/8",
            "peer:10.0.0.1:7,::1",
            "ep:tcp:5000",
            "svc:upper,greet",
            "proto:tcp",
            "role:client",
            "server:web-1:4242,00000000000000fe",
            "sni:db.example,x",
            "tls:1.2,1.3",
            "is:ok",
            "is:unanswered,binary",
            "is:utf8",
            "is:half",
            "end:fin",
            "end:rst,drain",
            "lat:1us",
            "lat:>1us",
            "size:<3",
            "size:1k",
            "port:5000",
            "port:<80",
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec![
            "tag:bug",
            "tag:http,x",
            "note:look",
            "note:\"two words\""
        ])
        .prop_map(str::to_owned),
        small().prop_map(|n| format!("id:{n}")),
        (small(), small()).prop_map(|(a, n)| format!("id:{a}..{}", a + n)),
        small().prop_map(|n| format!("conv:>{n}")),
        small().prop_map(|n| format!("n:{n},9")),
        small().prop_map(|n| format!("since:{n}us")),
        small().prop_map(|n| format!("before:{n}us")),
        small().prop_map(|n| format!("after:1970-01-01T00:00:00.00000{n}")),
        "\\PC{0,4}".prop_map(|text| format!("{text:?}").replace("\\'", "'")),
    ]
}

fn filter() -> impl Strategy<Value = String> {
    let query = condition().prop_recursive(5, 24, 3, |inner| {
        let many = |separator: &'static str| {
            prop::collection::vec(inner.clone(), 1..4).prop_map(move |parts| parts.join(separator))
        };
        prop_oneof![
            many(" "),
            many(" OR "),
            many(" AND "),
            inner.clone().prop_map(|query| format!("({query})")),
            inner.clone().prop_map(|query| format!("-({query})")),
        ]
    });
    let sequence = prop::collection::vec(query, 1..4).prop_map(|steps| steps.join(" THEN "));
    (
        sequence,
        prop::sample::select(vec!["", " sort:-lat", " limit:3", " sort:t limit:1"]),
    )
        .prop_map(|(query, modifiers)| query + modifiers)
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let tags = prop::sample::select(vec![
        vec![],
        vec!["bug".to_owned()],
        vec!["bug".to_owned(), "x".to_owned()],
    ]);
    let note = prop::sample::select(vec![None, Some("Look at two words".to_owned())]);
    (tags, note).prop_map(|(tags, note)| Labels { tags, note })
}

/// Whether the exchange at `at` matches the last of `steps`, and earlier ones of its conversation the others in their order.
fn is_sequence(steps: &[&Expr], exchanges: &[Exchange], at: usize, now: i64) -> bool {
    let Some((last, before)) = steps.split_last() else {
        return true;
    };
    let own = exchanges[at].conversation.id;
    last.matches(&exchanges[at], now)
        && (before.is_empty()
            || (0..at).any(|earlier| {
                exchanges[earlier].conversation.id == own
                    && is_sequence(before, exchanges, earlier, now)
            }))
}

prop_compose! {
    /// An exchange with small numbers, so that generated filters often match.
    fn any_exchange()(
        id in 0..5_u64, conversation in 0..5_u64, n in 1..4_u64, at in 0..6_i64, latency_ns in 0..3000_u64,
        outcome in prop::sample::select(vec![Outcome::Ok, Outcome::Unanswered, Outcome::Unsent]),
        request in "[abc é\\x00]{0,3}", reply in prop::collection::vec(0x60..0x64_u8, 0..3),
        remote in prop::sample::select(vec!["10.0.0.1:7", "127.0.0.1:7", "[::1]:7", "[::ffff:10.0.0.1]:7"]),
        reason in prop::sample::select(vec![None, Some(CloseReason::PeerClosed), Some(CloseReason::PeerReset), Some(CloseReason::DrainTimeout)]),
        half_closed in prop::option::of(0..6_i64),
        labels in (any_labels(), any_labels()),
    ) -> Exchange {
        let ended = reason.map(|reason| (at, Ending { reason, received: 0, sent: 0, unsent: 0, discarded: 0, left_over: None }));
        let remote = Address::Net(remote.parse().expect("an address"));
        let conversation = Conversation { id: conversation, remote, half_closed, ended, labels: labels.0, ..self::conversation() };
        Exchange {
            id, conversation: Arc::new(conversation), n, at, latency_ns, outcome, reads: 1,
            request: request.into_bytes(), reply, labels: labels.1,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn generated_filters_hold_the_invariants(text in filter(), exchange in any_exchange(), now in 0..6_i64) {
        check(&text, &exchange, now);
    }

    /// The matcher, which knows one number a conversation, agrees with a search for all ways to have the steps.
    #[test]
    fn matcher_finds_exactly_the_sequences(
        text in filter(), exchanges in prop::collection::vec(any_exchange(), 0..12), now in 0..6_i64,
    ) {
        let Ok(filter) = Filter::parse(&text) else { return Ok(()) };
        let steps: Vec<&Expr> = filter.steps().iter().chain([filter.expr()]).collect();
        let mut matcher = Matcher::new(filter.clone());
        for at in 0..exchanges.len() {
            let expected = is_sequence(&steps, &exchanges, at, now);
            prop_assert_eq!(matcher.matches(&exchanges[at], now), expected, "{} at {}", filter, at);
            if expected {
                prop_assert!(filter.matches(&exchanges[at], now), "the last step is necessary");
            }
        }
    }

    #[test]
    fn arbitrary_text_holds_the_filter_invariants(text in any::<String>(), exchange in any_exchange()) {
        check(&text, &exchange, 0);
    }

    #[test]
    fn filter_like_text_holds_the_filter_invariants(
        text in r#"([a-z]{1,5}[:~]|[ (){}"\\,:~!<>.-]|AND|OR |[0-9]{1,3}|[a-zé]{1,3}|\\x0|ms|/8){0,24}"#,
        exchange in any_exchange(),
    ) {
        check(&text, &exchange, 0);
    }

    #[test]
    fn filter_operators_obey_boolean_logic(a in condition(), b in condition(), exchange in any_exchange(), now in 0..6_i64) {
        let matches = |text: &str| Filter::parse(text).map(|filter| filter.matches(&exchange, now));
        if let (Ok(is_a), Ok(is_b)) = (matches(&a), matches(&b)) {
            prop_assert_eq!(matches(&format!("{a} {b}")), Ok(is_a && is_b));
            prop_assert_eq!(matches(&format!("{a} AND {b}")), Ok(is_a && is_b));
            prop_assert_eq!(matches(&format!("{a} OR {b}")), Ok(is_a || is_b));
            prop_assert_eq!(matches(&format!("-({a} OR {b})")), Ok(!is_a && !is_b));
            prop_assert_eq!(matches(&format!("-{a}")), Ok(!is_a));
            prop_assert_eq!(matches(&format!("{a} OR {b} {b}")), Ok(is_a || is_b));
        }
    }
}

#[test]
fn typed_times_are_in_the_zone_of_now() -> Result<(), FilterError> {
    let zone = jiff::tz::TimeZone::posix("IST-5:30").expect("a zone of POSIX");
    let now = jiff::Timestamp::from_microsecond(AT)
        .expect("a time")
        .to_zoned(zone);
    for (typed, printed) in [
        ("since:2026-11-22 17:30", "since:2026-11-22T12:00:00Z"),
        (
            "since:today before:17:34",
            "since:2026-11-21T18:30:00Z before:2026-11-22T12:04:00Z",
        ),
        ("-(after:yesterday 17:30)", "-since:2026-11-21T12:00:00Z"),
        ("since:10m", "since:10m"),
    ] {
        assert_eq!(
            Filter::parse_at(typed, &now)?.to_string(),
            printed,
            "{typed}"
        );
    }
    let matches =
        |text: &str| Filter::parse_at(text, &now).map(|filter| filter.matches(&exchange(), AT));
    assert!(matches("since:17:34 before:17:35")?);
    assert!(
        !matches("since:12:04 before:12:05")?,
        "it is 12:04 in UTC alone"
    );
    Ok(())
}

#[rstest]
#[case("needle", Some(4..10), None)]
#[case("rep:needle", None, None)]
#[case("req~Ne+d", Some(4..8), None)]
#[case("hex:????65", Some(3..6), Some(0..3))]
#[case("le OR needle", Some(4..10), None)]
#[case("-needle", None, None)]
#[case("svc:upper n:1", None, None)]
fn hit_is_where_a_condition_matches(
    #[case] filter: &str,
    #[case] request: Option<std::ops::Range<usize>>,
    #[case] reply: Option<std::ops::Range<usize>>,
) {
    let filter = Filter::parse(filter).unwrap();
    assert_eq!(filter.hit(Side::Request, b"hay Needle hay"), request);
    assert_eq!(filter.hit(Side::Reply, b"there"), reply);
}
