//! Whatever is in the rows of a file, reading it gives exchanges or an error, and an end.
#![no_main]

use std::cell::OnceCell;

use echoic_store::oracle::Rows;

thread_local! {
    static ROWS: OnceCell<(Rows, tempfile::TempDir)> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ROWS.with(|rows| {
        let (rows, _) = rows.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            (Rows::new(folder.path()), folder)
        });
        rows.check(data);
    });
});
