//! Bare axum: whatever is posted to /mcp gets one fixed reply, and what is posted to /large 16 MiB.
//!
//!     peer-axum PORT REPLY
//!
//! No layer, no extractor; the least that axum can cost.

use std::{env, error::Error, net::Ipv4Addr};

use axum::{
    Router,
    http::{HeaderValue, header::CONTENT_TYPE},
    body::Bytes,
    routing::post,
    serve::{Listener, ListenerExt},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let reply: &'static str = arguments.next().ok_or("no reply")?.leak();
    let json = HeaderValue::from_static("application/json");
    let large = Bytes::from(vec![b'x'; 16 * 1024 * 1024]);
    let router = Router::new()
        .route("/mcp", post(async move || ([(CONTENT_TYPE, json.clone())], reply)))
        .route("/large", post(async move || large.clone()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}
