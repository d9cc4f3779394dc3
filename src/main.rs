//! The program: arguments, configuration, telemetry, bind, serve, exit code.
//!
//! Owns the command line, what a person sees at the start, and that the process ends. The rule: it ends
//! `shutdown.drain_seconds` after the first signal and at once after the second, whatever the log, a peer or a call does.
//! So signals are heard in a thread of their own, which waits for nothing else, and nothing at the end waits without bound.
//! Exit codes: 0 done, 1 failed (port taken, not healthy), 2 wrong arguments or configuration.

use std::{
    io::{IsTerminal as _, Write, stderr, stdin},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{anyhow, ensure};
use clap::{Parser, Subcommand};
use mcp_echo_stateful::{
    config::{Config, ConfigError, DEFAULTS, Flags, Layers, Listen, LogFormat, log_format},
    healthcheck,
    link::Fault,
    observe::{access::AccessLog, json::json_line, log::Log},
    probe::{
        self,
        arguments::{self, Plan},
        progress::Teller,
    },
    reclaim,
    reload::Source,
    server::{
        Listeners, Server,
        bind::{ChosenBy, bind},
        greeting::Greeting,
    },
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, oneshot, watch},
    time::timeout,
};
use tracing::Level;

/// Chosen by measurement: see tests/bench/README.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a process that should have ended has beyond its time to drain, before it is ended.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// The heading in `--help` of the flags that a probe does not take.
const SERVER: &str = "Options of the server";

/// Ten isolated stateful MCP test servers in one process.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    /// Ready-made configuration, beneath the file: sessioned or conformance [env: MCP_ECHO_PROFILE]
    #[arg(long, global = true, value_name = "NAME", help_heading = SERVER)]
    profile: Option<String>,
    /// Configuration file (TOML) [env: MCP_ECHO_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = SERVER)]
    config: Option<PathBuf>,
    /// Address to bind [default: 0.0.0.0] [env: HOST]
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = SERVER)]
    host: Option<String>,
    /// Port to bind; 0 takes a free one [default: 3000] [env: PORT]
    #[arg(long, global = true, value_name = "PORT", help_heading = SERVER)]
    port: Option<u16>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (this is what happens without a subcommand)
    Serve,
    /// Ask a running server whether it is ready; exit code 0 if it is, 1 if not
    Healthcheck {
        /// What to ask [default: /readyz of the server that the configuration describes]
        url: Option<String>,
    },
    /// Open sessions through a proxy and see whether each stays whole; exit code 0 if all do, 1 if not
    Probe(arguments::Arguments),
    /// Look at the configuration without serving
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check it; exit code 0 if it can be used, 2 if not
    Check,
    /// Print every key in force, where it came from, secrets redacted
    Print,
    /// Print the default configuration, a file with a comment for each key
    Default,
}

/// Wrong arguments or configuration: exit code 2.
struct AskedWrongly(anyhow::Error);

fn main() -> ExitCode {
    let Arguments { profile, config: file, host, port, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and the version are asked for, and no error.
        Err(told) if !told.use_stderr() => told.exit(),
        Err(error) => match log_format(&Flags::default()) {
            LogFormat::Json => return fail(&anyhow!(error), 2, LogFormat::Json),
            LogFormat::Pretty | LogFormat::Compact => error.exit(),
        },
    };
    let flags = Flags { profile, file, host, port };
    let command = command.unwrap_or(Command::Serve);
    // Who asks something is a person or a script; what a server says goes where its log goes.
    let serves = matches!(command, Command::Serve);
    let done = match command {
        Command::Serve => serve(&flags),
        Command::Healthcheck { url } => check_health(&flags, url),
        Command::Probe(asked) => probe(&flags, asked),
        Command::Config(ConfigCommand::Check) => load(&flags).and_then(|config| check(&config)),
        Command::Config(ConfigCommand::Print) => Layers::of_process(&flags)
            .and_then(|layers| layers.print())
            .map(|text| say(text.trim_end()))
            .map_err(|error| AskedWrongly(error.into())),
        Command::Config(ConfigCommand::Default) => Ok(say(DEFAULTS.trim_end())),
    };
    let (error, code) = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error, 1),
        Err(AskedWrongly(error)) => (error, 2),
    };
    fail(&error, code, if serves { log_format(&flags) } else { LogFormat::Compact })
}

/// Says in one line why the program ends.
fn fail(error: &anyhow::Error, code: u8, format: LogFormat) -> ExitCode {
    let text = format!("{error:#}");
    let line = match format {
        LogFormat::Json => json_line(Level::ERROR, text.trim_end(), &[]),
        LogFormat::Pretty | LogFormat::Compact => {
            format!("mcp-echo-stateful: {text}\n").into_bytes()
        }
    };
    let _ = stderr().write_all(&line);
    ExitCode::from(code)
}

/// The inner error is a failure: exit code 1.
type Tried = Result<anyhow::Result<()>, AskedWrongly>;

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn load(flags: &Flags) -> Result<Config, AskedWrongly> {
    Layers::of_process(flags)
        .and_then(|layers| layers.check())
        .map_err(|error| AskedWrongly(error.into()))
}

/// Builds what would serve, and looks at the store.
fn check(config: &Config) -> Tried {
    let server = Server::build(config, AccessLog::silent()).map_err(AskedWrongly)?;
    let profile = config.profile.map(|profile| format!(" (profile {})", profile.name));
    let mut text = format!("the configuration is fine{}", profile.unwrap_or_default());
    if let Some(link) = server.link() {
        let store = runtime().map_err(AskedWrongly)?.block_on(link.look());
        text += &format!("; the store: {}", store.map_err(|fault| AskedWrongly(fault.into()))?);
    }
    Ok(say(&text))
}

fn check_health(flags: &Flags, url: Option<String>) -> Tried {
    let url = match url {
        Some(url) => url,
        None => healthcheck::own_url(&load(flags)?.server),
    };
    Ok(runtime().and_then(|runtime| runtime.block_on(healthcheck::check(&url))))
}

fn probe(flags: &Flags, asked: arguments::Arguments) -> Tried {
    let Flags { profile, file, host, port } = flags;
    if profile.is_some() || file.is_some() || host.is_some() || port.is_some() {
        let problem = anyhow!(
            "--profile, --config, --host and --port are the server's: a probe reads none of them"
        );
        return Err(AskedWrongly(problem));
    }
    let plan = Plan::read(asked).map_err(|error| AskedWrongly(error.into()))?;
    let probed = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = Signals::install()?;
            probe::run(&plan, Teller::of_process(), signals.next()).await
        })
    });
    Ok(probed.and_then(|report| {
        report.write_files(&plan)?;
        match plan.asked.json {
            true => say(&report.to_json()?)?,
            // The summary, which follows, says it all.
            false if !report.reached() => {}
            false => say(report.to_string().trim_end())?,
        }
        ensure!(report.is_whole(), "{}", report.summary());
        Ok(())
    }))
}

fn serve(flags: &Flags) -> Tried {
    let asked_wrongly = |error: ConfigError| AskedWrongly(error.into());
    let layers = Layers::of_process(flags).map_err(asked_wrongly)?;
    let config = layers.check().map_err(asked_wrongly)?;
    let log = Log::install(&config.log).map_err(AskedWrongly)?;
    let flags = flags.clone();
    let source = Source {
        layers,
        read: Box::new(move || Layers::of_process(&flags)),
        log: Some(log.control()),
    };
    let server =
        Server::build(&config, log.access_log()).map_err(AskedWrongly)?.reloading_from(source);
    let served = runtime().map(|runtime| {
        let served = runtime.block_on(async {
            // A store that is not there yet is waited for while serving; one that cannot be used is not.
            if let Some(link) = server.link()
                && let Err(wrong @ Fault::Wrong(_)) = link.look().await
            {
                return Err(AskedWrongly(wrong.into()));
            }
            Ok(run(&config, server).await)
        });
        // Not to wait for what was cut off, on whichever thread it is.
        runtime.shutdown_background();
        served
    });
    let dropped = log.dropped_lines();
    if dropped > 0 {
        tracing::warn!(dropped, "log lines were dropped because the writer could not keep up");
    }
    served.unwrap_or_else(|error| Ok(Err(error)))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn run(config: &Config, server: Server) -> anyhow::Result<()> {
    let address = SocketAddr::new(config.server.host.0, config.server.port);
    let listener = bind(address, ChosenBy::MAIN).await?;
    let admin = match config.admin.listen {
        Listen(Some(address)) => Some(bind(address, ChosenBy::ADMIN).await?),
        Listen(None) => None,
    };
    let abandoned = Arc::new(Notify::new());
    let stopping = hear_signals(server.drain_time(), Arc::clone(&abandoned))?;
    let mut hangups = signal(SignalKind::hangup())?;
    let bound = listener.local_addr()?;
    let admin_bound = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    // Before anyone is told that it serves: the terminal may be closed from then on.
    let interactive = stdin().is_terminal();
    let greeting = Greeting::of(config, &server, bound, admin_bound).render(config.log.format);
    // It serves, whether or not anyone reads this.
    show(greeting);
    tracing::info!(address = %bound, release = env!("CARGO_PKG_VERSION"), "listening");
    let reloads = server.reloads();
    let hearing = async {
        while hangups.recv().await.is_some() {
            // The terminal in which it was started is closed, and nobody would know that it still runs.
            if interactive && !stdin().is_terminal() {
                abandoned.notify_one();
                continue;
            }
            // The server has logged the result.
            let _ = reloads.ask().await;
        }
        std::future::pending().await
    };
    let reclaiming = reclaim::watch(server.budget());
    let serving = server.run(Listeners { main: listener, admin }, async {
        // The thread that hears signals ends with the process.
        let _ = stopping.await;
    });
    tokio::select! {
        _ = serving => Ok(()),
        never = hearing => never,
        never = reclaiming => match never {},
    }
}

/// Hears signals in a thread that nothing else can hold up. The first one, or `abandoned`, completes what is returned; a
/// second one, or the process outliving the time to drain, ends it.
fn hear_signals(
    drain_time: watch::Receiver<Duration>,
    abandoned: Arc<Notify>,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::install()?
    };
    let (stop, stopping) = oneshot::channel();
    let hearing = async move {
        tokio::select! {
            () = signals.next() => {}
            () = abandoned.notified() => {}
        }
        let _ = stop.send(());
        let left = drain_time.borrow().saturating_add(LAST_RESORT);
        let _ = timeout(left, signals.next()).await;
        std::process::exit(1);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(hearing))?;
    Ok(stopping)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes on standard error, so that standard output holds only the log. Nobody may be reading there.
fn show(text: Vec<u8>) {
    thread::spawn(move || {
        let _ = stderr().write_all(&text);
    });
}
