//! Messages of the runtime.

use std::io;

/// Writes a line to stderr, bypassing std's lock, which a suspended or stuck task may hold. Output
/// that cannot be written is lost.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    write(line.as_bytes());
}

/// Writes to the standard error descriptor, without std's lock and buffer. Async-signal-safe.
///
/// Gives up silently on an error: there is nowhere to report it.
pub(crate) fn write(mut text: &[u8]) {
    while !text.is_empty() {
        // SAFETY: `text` is readable for its length.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        match usize::try_from(written) {
            Ok(written) => text = &text[written..],
            // `last_os_error` reads `errno` and does not allocate.
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return,
        }
    }
}
