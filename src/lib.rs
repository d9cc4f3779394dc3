//! Ten isolated stateful MCP test servers in one process: the map.
//!
//! A request comes in at [`server`], passes the layers on the one page [`http`], where [`http::vhost`]
//! picks one of ten routers by the `Host` header, and reaches [`mcp::endpoint`]. From there on there is
//! one [`instance::Instance`] and no other.
//!
//! ```text
//! main ─ server ─┬─ http ── vhost ── access_log, origin, cors, bearer, body
//!                ├─ admin                (health, /debug)
//!                └─ mcp ── sessioned ── catalogue ── tools ── call ── session ── store ── memory
//!                           jsonrpc, version, model, failure, reply, sse
//! leaves: config, clock, lifecycle, telemetry, auth
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | what was written: keys, layers, checks |
//! | [`instance`] | what it means: one tenant, built at the start |
//! | [`server`] | accept and drain |
//! | [`lifecycle`] | no task is forgotten; stopping in two stages |
//! | [`http`] | the layers, each with its reason |
//! | [`mcp`] | the endpoint, from bytes to a reply |
//! | [`mcp::version`] | what each revision allows, in one table |
//! | [`mcp::sessioned`] | what a session id means for a request |
//! | [`mcp::failure`] | every failure, and the one way it leaves |
//! | [`tools`] | the tool table |
//! | [`call`] | what a tool gets and gives, whatever the era |
//! | [`session`] | what a conversation remembers, and an id that explains itself |
//! | [`session::store`] | the door to sessions; [`session::memory`] is moka |
//! | [`auth`] | who is calling |
//! | [`admin`] | what operators ask |
//! | [`telemetry`] | the log, one line a request |
//! | [`clock`] | times that never jump |
//! | [`healthcheck`] | a probe without curl |

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
pub mod prompts;
pub mod resources;
pub mod server;
pub mod session;
pub mod tasks;
pub mod telemetry;
pub mod tools;
