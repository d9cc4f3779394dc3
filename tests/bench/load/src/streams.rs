//! GET streams that are kept open.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, bail, ensure};

use crate::{
    conversation::{Session, stream_request},
    dialect::Dialect,
    http,
};

/// The open streams; dropping it closes them.
#[derive(Default)]
pub struct Streams(Vec<TcpStream>);

impl Streams {
    /// Opens one for each session, and waits for each head.
    pub fn open(&mut self, dialect: &Dialect, sessions: &[Session]) -> anyhow::Result<()> {
        for session in sessions {
            let mut stream = TcpStream::connect(dialect.address).context("connecting")?;
            stream.write_all(&stream_request(dialect, session))?;
            let mut buffer = vec![0; 4096];
            let mut filled = 0;
            let head = loop {
                let count = stream.read(&mut buffer[filled..])?;
                ensure!(count > 0, "the server closed a stream instead of opening it");
                filled += count;
                if let Some(head) = http::head(&buffer[..filled])? {
                    break head;
                }
            };
            ensure!(
                head.status == 200 && head.events,
                "no stream: {}",
                String::from_utf8_lossy(&buffer[..filled])
            );
            stream.set_nonblocking(true)?;
            self.0.push(stream);
        }
        Ok(())
    }

    /// How many have not been closed by the server. Comments that keep them alive are read away.
    pub fn still_open(&mut self) -> anyhow::Result<usize> {
        let mut buffer = [0; 4096];
        let mut open = 0;
        for stream in &mut self.0 {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        open += 1;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => bail!("a stream: {error}"),
                }
            }
        }
        Ok(open)
    }
}
