//! Lists on the standard output, a line for each thing.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Writes lines until there are no more, or the reader has gone, as `head` does when it has enough.
///
/// # Errors
/// When they cannot be written for another reason.
pub(super) fn lines<L: AsRef<[u8]>>(
    lines: impl IntoIterator<Item = anyhow::Result<L>>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        if has_gone(out.write_all(line?.as_ref()).and_then(|()| out.write_all(b"\n")))? {
            break;
        }
    }
    Ok(())
}

/// Whether the reader has gone.
///
/// # Errors
/// As [`lines`].
pub(super) fn has_gone(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error).context("cannot write"),
    }
}
