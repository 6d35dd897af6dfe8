//! What a service tells the kernel, so that it takes no more memory than it uses (docs/decisions/0055).

/// Makes this process, and those it starts, one whose memory comes in pages of 4 KiB.
pub(crate) fn keep_small() {
    // Where it cannot be done, some MiB more are all that comes of it; there is no log yet to say so in.
    #[cfg(target_os = "linux")]
    let _error = rustix::thread::disable_transparent_huge_pages(true);
}
