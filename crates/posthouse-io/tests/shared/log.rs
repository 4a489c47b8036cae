//! Captures the log of the process. Tests of several crates include this file.

#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();
/// The text of the line at which the log panics, once.
static PANICS_AT: Mutex<Option<&str>> = Mutex::new(None);

#[derive(Clone, Copy)]
struct Keep;

impl Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let panics = PANICS_AT
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()));
        assert!(panics.is_none(), "the log panics, as the test has asked");
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Keep {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Keeps the log of this process from now on.
pub fn keep() {
    STARTED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_ansi(false)
            .with_writer(Keep)
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other test keeps a log");
    });
}

/// Makes the log panic once, at the next line with this text.
pub fn panic_at(text: Option<&'static str>) {
    *PANICS_AT.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

/// The lines so far that contain this text.
pub fn lines(text: &str) -> Vec<String> {
    let bytes = LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let log = String::from_utf8(bytes).expect("the log is UTF-8");
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// Forgets the lines so far.
pub fn clear() {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
