//! Any first bytes of a client, by the oracle that the fuzz target has.

use echoic_wire::check_first_flight;
use proptest::prelude::*;

use crate::tls::TlsLayer;

/// What `openssl s_client` sends first.
const HELLOS: [&[u8]; 3] = [
    include_bytes!("../../../../fuzz/seeds/first_flight/hello_1_3"),
    include_bytes!("../../../../fuzz/seeds/first_flight/hello_1_2"),
    include_bytes!("../../../../fuzz/seeds/first_flight/hello_1_1"),
];

thread_local! {
    static TLS: TlsLayer = TlsLayer::new();
}

fn check(bytes: &[u8]) {
    TLS.with(|tls| check_first_flight(&tls.server, bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_first_bytes_are_refused_with_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    /// A ClientHello with some bytes changed, and cut or followed by others.
    #[test]
    fn changed_hello_is_refused_with_a_reason(
        which in 0..HELLOS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
        more in prop::collection::vec(any::<u8>(), 0..40),
        cuts in any::<bool>(),
    ) {
        let mut hello = HELLOS[which].to_vec();
        for (at, byte) in changes {
            let at = at.index(hello.len());
            hello[at] = byte;
        }
        if cuts {
            hello.truncate(keep.index(hello.len()));
        }
        hello.extend(more);
        check(&hello);
    }
}
