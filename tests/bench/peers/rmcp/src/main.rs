//! An echo on the official Rust SDK, in its fastest stateful setting: no priming event, no keep-alive, no Nagle.
//!
//!     peer-rmcp PORT

use std::{env, error::Error, net::Ipv4Addr, sync::Arc};

use axum::{Router, serve::ListenerExt};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities, ServerConfig},
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let message = arguments.get("message").and_then(|message| message.as_str());
        let message = message.ok_or_else(|| ErrorData::invalid_params("message is required", None))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(message)]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("no port")?.parse()?;
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = None;
    sessions.session_config.sse_retry = None;
    let config = StreamableHttpServerConfig::default().with_sse_keep_alive(None).with_sse_retry(None);
    let service = StreamableHttpService::new(|| Ok(Echo), Arc::new(sessions), config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
