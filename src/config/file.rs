//! Files that an operator names.
//!
//! Owns the rules for all of them, at the start and at a reload: what is read is a regular file; what is written, by a
//! thread of its own, may be anything that can be opened without waiting.
//! Trap: to open one end of a FIFO waits until somebody opens the other, and to read a device may never end.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

/// Fails if there is something at this path that is no regular file. There may be nothing.
fn check_regular(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

/// Opens a file to append to, which is made if there is none. A FIFO is opened at both ends.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new().create(!fifo).read(fifo).append(true).open(path)
}

/// The text of a regular file.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    check_regular(path)?;
    fs::read_to_string(path)
}
