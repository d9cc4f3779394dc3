//! The least client that a test needs: one command on a connection of its own, and its reply.
//!
//! Owns what a reply of RESP2 is. Traps: text that is no UTF-8 is read with replacements, so bytes that a script has
//! packed do not come through unchanged; and what a connection remembers is gone with the next command, so that MULTI,
//! SELECT and WAIT do nothing here.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// What a server says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Error(String),
    Integer(i64),
    Nil,
    List(Vec<Self>),
}

impl Reply {
    /// The text that it must be.
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Error(_) | Self::Integer(_) | Self::Nil | Self::List(_) => {
                panic!("no text: {self}")
            }
        }
    }

    /// The number that it must be, or the text says.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            Self::Text(text) => text.parse().expect("a number"),
            Self::Error(_) | Self::Nil | Self::List(_) => panic!("no number: {self}"),
        }
    }

    /// The items of the list that it must be.
    #[track_caller]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Text(_) | Self::Error(_) | Self::Integer(_) | Self::Nil => {
                panic!("no list: {self}")
            }
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Error(error) => write!(f, "(error) {error}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Nil => f.write_str("(nil)"),
            Self::List(items) => f.debug_list().entries(items.iter().map(Self::to_string)).finish(),
        }
    }
}

/// A command as a client sends it.
pub(super) fn encode(command: &[&str]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    request.into_bytes()
}

/// Sends a command to the server behind this socket.
pub(super) fn ask(socket: &Path, command: &[&str]) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&encode(command))?;
    read(&mut BufReader::new(stream))
}

/// Reads one reply.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "+" => Reply::Text(rest.into()),
        "-" => Reply::Error(rest.into()),
        ":" => Reply::Integer(number()?),
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                Reply::Text(String::from_utf8_lossy(&bytes[..length]).into())
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(length) => Reply::List((0..length).map(|_| read(from)).collect::<io::Result<_>>()?),
            Err(_) => Reply::Nil,
        },
        other => return Err(io::Error::other(format!("no reply begins with {other}"))),
    })
}
