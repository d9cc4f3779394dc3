//! Ten isolated stateful MCP test servers in one process: the map.
//!
//! A request comes in at [`server`], passes the layers on the one page [`http`], where [`http::vhost`]
//! picks one of ten routers by the `Host` header, and reaches [`mcp::endpoint`], which picks the era. From
//! there on there is one [`instance::Instance`] and no other.
//!
//! ```text
//! main ─ server ─┬─ http ── vhost ── access_log, origin, cors, bearer, body
//!                ├─ admin                (health, /debug, /metrics)
//!                └─ mcp ─┬─ sessioned ── run ──────┬─ dispatch ── catalogue ─┬─ tools ── call
//!                        └─ stateless ── headers ──┘                         ├─ resources
//!                           ├─ listen                                        └─ prompts
//!                           └─ seal
//! main ─ probe ── conversation ── exchange ── wire;  tally, verdict, report
//! state:  session ── store ── memory ── calendar;  tasks;  hub ── who is told of a change
//! wire:   json, jsonrpc, params, version, model, failure, reply, stream, sse
//! leaves: config, place, clock, lifecycle, telemetry, metrics, auth, reload
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | what was written: keys, layers, checks |
//! | [`instance`] | what it means: one tenant, built at the start |
//! | [`place`] | where something was minted: the head of every id |
//! | [`server`] | accept and drain; a connection that does not wait for ever |
//! | [`reload`] | another configuration while serving: who asks, and what comes of it |
//! | [`lifecycle`] | no task is forgotten; stopping in two stages |
//! | [`http`] | the layers, each with its reason |
//! | [`mcp`] | the endpoint, from bytes to an era |
//! | [`mcp::json`] | the members of a message, found in one pass |
//! | [`mcp::params`] | what more than one reader wants of a request |
//! | [`mcp::version`] | what each revision allows, in one table |
//! | [`mcp::sessioned`] | what a session id means for a request |
//! | [`mcp::stateless`] | what a request means that stands for itself |
//! | [`mcp::dispatch`] | from a method to a capability, whatever the era |
//! | [`mcp::catalogue`] | answers that are prepared once |
//! | [`mcp::stream`] | an event log that one reader follows, and can come back to |
//! | [`mcp::listen`] | a stream of the changes that a client asked for |
//! | [`mcp::seal`] | what a client carries for us and cannot change |
//! | [`mcp::failure`] | every failure, and the one way it leaves |
//! | [`tools`] | the tool table |
//! | [`resources`] | what can be read by URI |
//! | [`prompts`] | messages with blanks to fill in |
//! | [`call`] | what a tool gets and gives, whatever the era |
//! | [`session`] | what a conversation remembers, and an id that explains itself |
//! | [`session::store`] | the door to sessions; [`session::memory`] is moka, and a calendar of when they are due |
//! | [`tasks`] | calls that outlive their request |
//! | [`hub`] | who is told of a change |
//! | [`auth`] | who is calling |
//! | [`admin`] | what operators ask |
//! | [`telemetry`] | the log, one line a request |
//! | [`metrics`] | what is counted: tables that an enum finds its place in |
//! | [`clock`] | times that never jump |
//! | [`healthcheck`] | a probe without curl |
//! | [`probe`] | a client that tests what lies between: its sessions, one by one |

pub mod admin;
pub mod auth;
pub mod call;
pub mod clock;
pub mod config;
pub mod healthcheck;
pub mod http;
pub mod hub;
pub mod instance;
pub mod lifecycle;
pub mod mcp;
pub mod metrics;
pub mod place;
pub mod probe;
pub mod prompts;
pub mod reload;
pub mod resources;
pub mod server;
pub mod session;
pub mod tasks;
pub mod telemetry;
pub mod tools;
