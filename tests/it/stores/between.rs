//! A proxy in front of a store that loses, delays or refuses what a test tells it to.
//!
//! Owns what is done to bytes on their way. It runs on threads of its own, so it goes on while a test blocks. Trap: a
//! connection that has lost an answer never gives another, whatever the mode is later: a client that counts replies
//! would take the next one for the lost one, which no network does.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    thread,
    time::Duration,
};

/// What is done to all that passes, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Requests reach the server; nothing comes back.
    SwallowAnswers,
    /// Answers come so much later, or up to twice that when one follows another.
    Delay(Duration),
    /// Connections are closed, old ones and new ones.
    Refuse,
    /// Connections are accepted; nothing reaches the server, and nothing comes back.
    Hang,
}

/// What becomes of a connection whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is closed once the server has done what it was asked.
    Closed,
    /// It stays open and says nothing more.
    Silent,
}

/// It closes everything when it is dropped.
pub struct Between {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    mode: Mode,
    /// After how many scripts an answer is to be lost, and how.
    lose: Option<(usize, Loss)>,
    /// Both ends of each connection.
    open: Vec<TcpStream>,
    is_over: bool,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.set(Mode::Refuse);
        self.lock().is_over = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Between {
    /// A proxy before the server on this port, which may also come and go.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        let state = State { mode: Mode::Pass, lose: None, open: Vec::new(), is_over: false };
        let state = Arc::new(Mutex::new(state));
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if accepting.lock().expect("lock").is_over {
                    return;
                }
                // Whatever fails here closes the connection.
                let _ = connect(client, to, &accepting);
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mode: Mode) {
        let mut state = self.lock();
        state.mode = mode;
        if mode == Mode::Refuse {
            for stream in state.open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Loses the answer to the `nth` script (EVALSHA or EVAL) from now on, 1 being the next, on whatever connection it
    /// comes. The server runs the script. Answers that are on their way on the same connection may be lost with it.
    pub fn lose_answer(&self, nth: usize, loss: Loss) {
        self.lock().lose = Some((nth, loss));
    }

    /// Whether that script has come.
    pub fn has_lost(&self) -> bool {
        self.lock().lose.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("lock")
    }
}

impl State {
    /// Counts scripts, and says what becomes of the answer when it is the one to be lost.
    fn count(&mut self, scripts: usize) -> Option<Loss> {
        let (left, loss) = self.lose?;
        match left.checked_sub(scripts) {
            Some(left) if left > 0 => {
                self.lose = Some((left, loss));
                None
            }
            Some(_) | None => {
                self.lose = None;
                Some(loss)
            }
        }
    }
}

/// Passes on between a client and the server, in a thread for each direction.
fn connect(client: TcpStream, to: u16, state: &Arc<Mutex<State>>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", to))?;
    let mut locked = state.lock().expect("lock");
    if locked.mode == Mode::Refuse {
        return Ok(());
    }
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        locked.open.push(stream.try_clone()?);
    }
    drop(locked);
    let lost = Arc::new(OnceLock::new());
    let (requests, answers) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let (other_state, other_lost) = (Arc::clone(state), Arc::clone(&lost));
    thread::spawn(move || pass_requests(requests, &other_state, &other_lost));
    let state = Arc::clone(state);
    thread::spawn(move || pass_answers(answers, &state, &lost));
    Ok(())
}

fn pass_requests(
    (mut client, mut server): (TcpStream, TcpStream),
    state: &Mutex<State>,
    lost: &OnceLock<Loss>,
) {
    let mut buffer = [0; 65_536];
    let mut scripts = Scripts::default();
    let mut is_deaf = false;
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        is_deaf |= state.lock().expect("lock").mode == Mode::Hang;
        if is_deaf {
            continue;
        }
        let loss = state.lock().expect("lock").count(scripts.count(bytes));
        // Before the server can answer.
        if let Some(loss) = loss {
            let _ = lost.set(loss);
            is_deaf = true;
        }
        let passed = server.write_all(bytes);
        // The server does what it has read, answers, and closes.
        if (loss.is_some() && server.shutdown(Shutdown::Write).is_err()) || passed.is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

fn pass_answers(
    (mut server, mut client): (TcpStream, TcpStream),
    state: &Mutex<State>,
    lost: &OnceLock<Loss>,
) {
    let mut buffer = [0; 65_536];
    let mut is_silent = false;
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let mode = state.lock().expect("lock").mode;
        match mode {
            Mode::Delay(time) => thread::sleep(time),
            Mode::SwallowAnswers | Mode::Hang => is_silent = true,
            Mode::Pass | Mode::Refuse => {}
        }
        if !is_silent && lost.get().is_none() && client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if lost.get() != Some(&Loss::Silent) {
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// Finds scripts among the requests of a connection, also across two reads.
#[derive(Default)]
struct Scripts {
    last: Vec<u8>,
}

impl Scripts {
    /// How the name of EVAL, EVALSHA and their read-only kin begins on the wire.
    const NAME: &[u8] = b"\nEVAL";

    fn count(&mut self, bytes: &[u8]) -> usize {
        self.last.extend_from_slice(bytes);
        let found =
            self.last.windows(Self::NAME.len()).filter(|&window| window == Self::NAME).count();
        let rest = self.last.len().saturating_sub(Self::NAME.len() - 1);
        self.last.drain(..rest);
        found
    }
}
