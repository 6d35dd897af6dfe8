//! What a service tells the kernel and its allocator, so that it takes no more memory than it uses (docs/decisions/0055).

use std::{env, os::unix::process::CommandExt as _, process::Command};

/// How long mimalloc keeps what was freed before it gives it back to the system, in milliseconds.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// In milliseconds. What is freed between two events of a steady stream is used again, and not given back and asked for again.
const SOON: &str = "100";

/// Makes this process one that comes in pages of 4 KiB and gives back soon what it frees. mimalloc reads its environment before `main`, so
/// the process begins once more, before it reads anything, unless its environment says already what it should; its number stays.
pub(crate) fn keep_small() {
    // Where either cannot be done, some MiB more are all that comes of it; there is no log yet to say so in.
    #[cfg(target_os = "linux")]
    let _error = rustix::thread::disable_transparent_huge_pages(true);
    if env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else { return };
    let _error = Command::new(program).arg0(name).args(arguments).env(PURGE_DELAY, SOON).exec();
}
