//! That the servers, groups and the proxy of the tests do what their names say.
//!
//! Owns no behaviour of the program. Trap: what fails here makes every test of the shared store fail, so look here
//! first.

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{
    Between, Cluster, Engine, Loss, Mode, Reply, Sentinel, StoreServer, reply, wait_until,
};

/// A connection as the program has one, which waits for an answer for a third of a second.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, command: &[&str]) -> io::Result<String> {
        self.0.get_mut().write_all(&reply::encode(command))?;
        reply::read(&mut self.0).map(|reply| reply.to_string())
    }

    /// Whether its last wait was in vain, and not because the connection was closed.
    fn hears_nothing(&mut self, command: &[&str]) -> bool {
        let kind = self.ask(command).map_err(|error| error.kind());
        matches!(kind, Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// Counts one more by a script.
const COUNT: [&str; 4] = ["EVAL", "return redis.call('INCR', KEYS[1])", "1", "count"];

#[test]
fn a_server_answers_and_counts_its_commands() {
    for (engine, version) in
        [(Engine::Redis, "redis_version:"), (Engine::Valkey, "valkey_version:9.")]
    {
        let server = StoreServer::start(engine);
        assert!(server.command(&["INFO", "server"]).text().contains(version), "{engine:?}");
        let mut client = Client::connect(server.port());
        assert_eq!(client.ask(&["SET", "a", "b c"]).expect("answers"), "OK");
        assert_eq!(server.command(&["GET", "a"]), Reply::Text("b c".into()));
        assert_eq!(server.command(&["GET", "b"]), Reply::Nil);
        assert_eq!(server.command(&["STRLEN", "a"]).integer(), 3);
        assert_eq!(server.command(&["MGET", "a", "b"]).to_string(), r#"["b c", "(nil)"]"#);
        let error = server.command(&["INCR", "a"]);
        assert!(error.is_error(), "{error}");
        assert_eq!(server.commandstats()["get"], 2);
        server.command(&["CONFIG", "RESETSTAT"]);
        assert_eq!(server.commandstats().get("get"), None);
        assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
        assert!(server.log().contains("accept connections"), "{}", server.log());
    }
}

#[test]
fn a_server_pauses_and_goes_on() {
    for engine in Engine::ALL {
        let server = StoreServer::start(engine);
        let mut client = Client::connect(server.port());
        server.pause();
        assert!(client.hears_nothing(&["PING"]));
        assert!(server.try_command(&["PING"]).is_err());
        server.resume();
        assert_eq!(server.command(&["PING"]).text(), "PONG");
    }
}

#[test]
fn a_server_starts_again_with_what_it_has_written() {
    for engine in Engine::ALL {
        let append = ["--appendonly", "yes", "--appendfsync", "always"];
        for (arguments, kept) in [(&append[..], Reply::Text("b".into())), (&[], Reply::Nil)] {
            let server = StoreServer::with(engine, arguments);
            let port = server.port();
            server.command(&["SET", "a", "b"]);
            server.kill();
            assert!(server.try_command(&["GET", "a"]).is_err());
            TcpStream::connect(("127.0.0.1", port)).expect_err("nobody is there");
            server.start_again();
            assert_eq!(server.port(), port);
            assert_eq!(server.command(&["GET", "a"]), kept, "{engine:?} {arguments:?}");
        }
    }
}

#[test]
fn a_server_is_gone_with_its_value() {
    let server = StoreServer::start(Engine::Redis);
    let port = server.port();
    drop(server);
    TcpStream::connect(("127.0.0.1", port)).expect_err("nobody is there");
}

#[test]
fn a_server_speaks_tls() {
    let server = StoreServer::tls();
    let mut roots = RootCertStore::empty();
    let pem = fs::read(server.ca_file()).expect("is there");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("fits");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("fits");
    let stream = TcpStream::connect(("localhost", server.port())).expect("connects");
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(b"PING\r\n").expect("is sent");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("is answered");
    assert_eq!(&answer, b"+PONG\r\n");
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    assert_eq!(server.url(), format!("rediss://localhost:{}", server.port()));
}

#[test]
fn a_cluster_serves_each_key_at_its_shard() {
    for engine in Engine::ALL {
        let cluster = Cluster::start(engine);
        for key in ["{1}:a", "{2}:a", "{3}:a", "{4}:a"] {
            let at = cluster.shard_of(key);
            assert_eq!(at.command(&["SET", key, "b"]).text(), "OK");
            for other in cluster.shards.iter().filter(|other| other.port() != at.port()) {
                let moved = other.command(&["GET", key]).to_string();
                let there = format!("127.0.0.1:{}", at.port());
                assert!(moved.contains("MOVED") && moved.ends_with(&there), "{moved}");
            }
        }
        let [a, b, c] = [0, 1, 2].map(|at| cluster.shards[at].port());
        let url = format!("redis+cluster://127.0.0.1:{a},127.0.0.1:{b},127.0.0.1:{c}");
        assert_eq!(cluster.url(), url);
    }
}

#[test]
fn sentinel_fails_over() {
    let sentinel = Sentinel::start();
    let [first, second] = [0, 1].map(|at| sentinel.stores[at].port());
    assert_eq!(sentinel.master().port(), first);
    // WAIT waits for what its own connection has written.
    let mut client = Client::connect(first);
    assert_eq!(client.ask(&["SET", "a", "b"]).expect("answers"), "OK");
    assert_eq!(client.ask(&["WAIT", "1", "200"]).expect("answers"), "1");
    sentinel.fail_over();
    assert_eq!(sentinel.master().port(), second);
    assert_eq!(sentinel.master().command(&["GET", "a"]).text(), "b");
    assert!(sentinel.url().ends_with("/mymaster"), "{}", sentinel.url());
}

#[test]
fn sentinel_replaces_a_master_that_was_killed() {
    let sentinel = Sentinel::start();
    let killed = sentinel.master().port();
    sentinel.master().kill();
    sentinel.failed_over(killed);
}

#[test]
fn what_is_between_passes_delays_and_swallows() {
    let server = StoreServer::start(Engine::Redis);
    let between = Between::start(server.port());
    assert_eq!(between.url(), format!("redis://127.0.0.1:{}", between.port()));
    let mut client = Client::connect(between.port());
    assert_eq!(client.ask(&COUNT).expect("answers"), "1");

    between.set(Mode::Delay(Duration::from_millis(100)));
    let start = Instant::now();
    assert_eq!(client.ask(&COUNT).expect("answers"), "2");
    assert!(start.elapsed() >= Duration::from_millis(100));

    between.set(Mode::SwallowAnswers);
    assert!(client.hears_nothing(&COUNT));
    assert_eq!(server.command(&["GET", "count"]).integer(), 3);

    // It never takes another answer for the lost one.
    between.set(Mode::Pass);
    assert!(client.hears_nothing(&COUNT));
    assert_eq!(Client::connect(between.port()).ask(&COUNT).expect("answers"), "5");
}

#[test]
fn what_is_between_loses_the_answer_to_one_script() {
    let server = StoreServer::start(Engine::Redis);
    let between = Between::start(server.port());
    for (loss, before) in [(Loss::Closed, 0), (Loss::Silent, 3)] {
        let mut client = Client::connect(between.port());
        between.lose_answer(2, loss);
        assert_eq!(client.ask(&COUNT).expect("answers"), (before + 1).to_string());
        assert_eq!(client.ask(&["PING"]).expect("answers"), "PONG");
        assert!(!between.has_lost());
        match loss {
            Loss::Closed => {
                assert!(client.ask(&COUNT).is_err() && !client.hears_nothing(&["PING"]))
            }
            Loss::Silent => {
                assert!(client.hears_nothing(&COUNT) && client.hears_nothing(&["PING"]))
            }
        }
        assert!(between.has_lost());
        assert_eq!(
            server.command(&["GET", "count"]).integer(),
            before + 2,
            "the server has run it"
        );
        let mut other = Client::connect(between.port());
        assert_eq!(other.ask(&COUNT).expect("answers"), (before + 3).to_string());
    }
}

#[test]
fn what_is_between_refuses_and_hangs() {
    let server = StoreServer::start(Engine::Redis);
    let between = Between::start(server.port());
    let mut client = Client::connect(between.port());
    assert_eq!(client.ask(&COUNT).expect("answers"), "1");
    between.set(Mode::Refuse);
    let is_closed =
        |client: &mut Client| client.ask(&COUNT).is_err() && !client.hears_nothing(&COUNT);
    assert!(is_closed(&mut client));
    assert!(is_closed(&mut Client::connect(between.port())));

    between.set(Mode::Hang);
    let mut client = Client::connect(between.port());
    assert!(client.hears_nothing(&COUNT));
    assert_eq!(server.command(&["GET", "count"]).integer(), 1);

    between.set(Mode::Pass);
    assert_eq!(Client::connect(between.port()).ask(&COUNT).expect("answers"), "2");
    let port = between.port();
    drop(between);
    wait_until("nobody is there", || TcpStream::connect(("127.0.0.1", port)).is_err());
}
