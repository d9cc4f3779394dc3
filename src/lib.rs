//! Ten isolated stateful MCP test servers in one process: the map.
//!
//! Each room below stands on rooms that come after it in the table, and imports no other; a test reads the imports.
//!
//! | room | what it owns |
//! |---|---|
//! | [`server`] | accepting, connections, host selection, the stack of layers put together, draining |
//! | [`home`] | the page at `/`: what runs here and how to reach it |
//! | [`admin`] | what operators ask: health, metrics, `/debug` and its page |
//! | [`mcp`] | the endpoint: from bytes to an era, one way for a call, prepared answers |
//! | [`http`] | the layers between the connection and MCP, one a file |
//! | [`tools`] | what a call gets and gives; the tables of tools, resources and prompts |
//! | [`tenant`] | one of the ten: a policy that a reload replaces, a state that it keeps |
//! | [`failure`] | every failure, one row each, and how it is told |
//! | [`session`] | records that the store owns, conversations that this process has open, the store's door |
//! | [`process`] | what the ten instances share |
//! | [`reload`] | another configuration while serving: who asks, and what comes of it |
//! | [`observe`] | the log, the record of a request, metrics, recent requests, events |
//! | [`healthcheck`] | a probe without curl |
//! | [`link`] | the connection to the shared store: addresses, scripts, time limits, repetition |
//! | [`config`] | what was written: keys, layers, checks, and what a reload may change |
//! | [`probe`] | a client that tests what lies between |
//! | [`client`] | an HTTP/1 connection to a server |
//! | [`tls`] | TLS as a client: which certificates are trusted |
//! | [`wire`] | MCP as bytes: messages, headers, events, revisions; knows nothing of ours |
//! | [`paths`] | the paths that are served |
//! | [`id`] | instance, replica, boot, session id, caller |
//! | [`ruler`] | the text of a large answer, which is digested once |
//! | [`reclaim`] | memory that one thread has freed and another still keeps |
//! | [`histogram`] | how often something took how long |
//! | [`budget`] | how many bytes clients can make the process hold |
//! | [`lifecycle`] | no task is forgotten; stopping in stages |
//! | [`clock`] | moments that never jump, and how they are told as times of day |
//!
//! # A tool call, from the socket to the answer
//!
//! 1. [`server`] accepts a connection, gives it its deadlines and hands each request to [`server::stack`].
//! 2. [`http::access_log`] gives the request its record; [`server::hosts`] picks the instance by the `Host` header.
//! 3. [`http::origin`] turns foreign pages away; [`http::bearer`] finds out who calls, and says so to the endpoint.
//! 4. [`mcp::Endpoint`] reads the body ([`http::body`]), parses it ([`wire::jsonrpc`]) and picks the era.
//! 5. `mcp::sessioned` loads the session that the header names; `mcp::stateless` compares headers with `_meta`.
//! 6. `mcp::call` finds the tool, reads its arguments, finds the session of a handle and runs the tool.
//! 7. The tool ([`tools`]) looks at the session's record. What it changes is one [`session::record::Change`], in which
//!    the call is counted; [`session::store`] commits it, and the answer is made of the record that comes back.
//! 8. The era writes the answer: one JSON document, or an event ([`session::stream`]). When its body has ended, the
//!    record becomes a line of the log ([`observe::access`]), a count ([`observe::metrics`]) and a recent request.
//!
//! # A configuration key, from the file to its use and through a reload
//!
//! 1. [`config`] merges defaults, file, environment and flags, checks each key and keeps where its value came from.
//! 2. [`tenant::Instance::build_all`] turns it into a policy: what is expensive or can fail is done there, once.
//! 3. A request reads the policy of its instance and nothing else.
//! 4. On SIGHUP or `POST /debug/reload`, [`reload`] asks the server, which reads the layers again. [`config`] holds what
//!    only a start can change; new policies are built around the states there are; [`server::hosts`] swaps the ten at once.
//!
//! # A failure, from its depth to the client
//!
//! 1. Each room has errors of its own, such as [`session::store::NotLoaded`] and [`tools::arguments::BadArguments`].
//! 2. Where MCP begins it becomes a [`failure::Failure`]: one row, with code and status for each era, and a text that
//!    says what to do.
//! 3. The era tells it in the answer, in a batch, in a task or as the last event of a stream; alone it has its own HTTP
//!    status, and leaves through `mcp::exchange`, which notes the outcome for the log.
//! 4. What fails before MCP is a [`http::problem`]; a panic is a [`http::PanicResponse`].

pub mod admin;
pub mod budget;
pub mod client;
pub mod clock;
pub mod config;
pub mod failure;
pub mod healthcheck;
pub mod histogram;
pub mod home;
pub mod http;
pub mod id;
pub mod lifecycle;
pub mod link;
pub mod mcp;
pub mod observe;
pub mod paths;
pub mod probe;
pub mod process;
pub mod reclaim;
pub mod reload;
pub mod ruler;
pub mod server;
pub mod session;
pub mod tenant;
pub mod tls;
pub mod tools;
pub mod wire;
