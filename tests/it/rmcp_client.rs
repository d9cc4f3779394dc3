//! The official Rust SDK as a client: whole conversations on several instances.

use crate::support::TestServer;
use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, ClientConfig},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};

#[tokio::test]
async fn whole_conversations_on_several_instances() {
    let server = TestServer::start(&[]).await;
    for instance in [0, 3, 9] {
        let host = format!("echo-stateful{instance}.localhost");
        let http =
            reqwest::Client::builder().resolve(&host, server.address).build().expect("builds");
        let url = format!("http://{host}:{}/mcp", server.address.port());
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let client = ClientConfig::default().serve(transport).await.expect("initializes");

        let tools = client.list_all_tools().await.expect("lists");
        assert!(tools.iter().any(|tool| tool.name == "echo"));
        let call = async |name: &'static str, arguments: Value| {
            let mut params = CallToolRequestParams::new(name);
            params.arguments = arguments.as_object().cloned();
            let result = client.call_tool(params).await.expect("is called");
            assert_ne!(result.is_error, Some(true));
            result.structured_content.expect("is structured")
        };
        assert_eq!(call("echo", json!({"message": "hi"})).await["message"], "hi");
        call("set_session_data", json!({"key": "k", "value": instance})).await;
        assert_eq!(call("get_session_data", json!({"key": "k"})).await["value"], instance);
        let info = call("get_session_info", json!({})).await;
        assert_eq!(
            (&info["request_count"], &info["minted_by"]["instance"]),
            (&json!(3), &json!(instance))
        );
        client.cancel().await.expect("terminates");
        crate::support::eventually(|| {
            server.instances[usize::from(instance as u8)].sessions.counts().live == 0
        })
        .await;
    }
}
