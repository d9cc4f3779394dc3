//! What `/` shows a browser and anyone else, at the front door and on an instance's own host.

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::support::{Answer, Request, TestServer, instance_host};

/// As Chromium writes it.
const BROWSER: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

fn page(server: &TestServer, host: &str) -> Request {
    server.request("GET", "/").host(host).header("Accept", BROWSER)
}

async fn both(server: &TestServer, host: &str) -> [String; 2] {
    let html = page(server, host).send().await;
    let text = server.request("GET", "/").host(host).header("Accept", "*/*").send().await;
    assert_eq!(html.expect_status(200).header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(text.expect_status(200).header("content-type"), Some("text/plain; charset=utf-8"));
    for answer in [&html, &text] {
        assert_eq!(answer.header("vary"), Some("accept"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!answer.text().contains("{{"), "{}", answer.text());
    }
    [html.text(), text.text()]
}

#[tokio::test]
async fn the_front_door_shows_all_ten_as_its_client_calls_it() {
    let server = TestServer::start(&[]).await;
    for (host, domain) in [
        ("localhost:3000", "localhost:3000"),
        ("127.0.0.1:3000", "localhost:3000"),
        ("[::1]:3000", "localhost:3000"),
        ("ECHO-stateful.Example.com.:81", "example.com:81"),
        ("echo-stateful.example.com", "example.com"),
    ] {
        for text in both(&server, host).await {
            assert!(text.contains(&format!("http://{host}/mcp")), "{text}");
            for instance in 0..10 {
                let by_path = format!("http://{host}/echo-stateful{instance}/mcp");
                let by_host = format!("http://echo-stateful{instance}.{domain}/mcp");
                assert!(text.contains(&by_path), "{by_path}: {text}");
                assert!(text.contains(&by_host), "{by_host}: {text}");
            }
            for word in ["instance 0 answers", "/debug", "2024-11-05 to 2026-07-28", "0-9"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn each_url_that_is_shown_leads_to_its_instance() {
    let server = TestServer::start(&[("BASE_DOMAIN", "echo.test")]).await;
    let here = format!("echo-stateful.echo.test:{}", server.address.port());
    let [_, text] = both(&server, &here).await;
    let urls: Vec<_> = text.split_whitespace().filter(|word| word.ends_with("/mcp")).collect();
    // Front door, ten by path and by host, and the one of the curl line.
    assert_eq!(urls.len(), 22, "{text}");
    for url in urls {
        let (host, path) = url.strip_prefix("http://").expect("http").split_once('/').unwrap();
        let answer =
            server.initialize("2025-06-18").at(&format!("/{path}")).host(host).send().await;
        let numbers = url.split("echo-stateful").skip(1).filter_map(|rest| rest.chars().next());
        let digit = numbers.filter(char::is_ascii_digit).last().unwrap_or('0');
        answer.expect_status(200);
        assert_eq!(answer.header("mcp-echo-instance"), Some(&*digit.to_string()), "{url}");
    }
}

#[tokio::test]
async fn an_instance_s_own_host_shows_it_alone() {
    let server = TestServer::start(&[
        ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "passthrough"),
        ("MCP_ECHO_INSTANCES__4__SESSION__CAPACITY", "12345"),
    ])
    .await;
    let host = format!("{}:3000", instance_host(3));
    for text in both(&server, &host).await {
        for word in ["Instance 3", "any well-formed token", &format!("http://{host}/mcp")] {
            assert!(text.contains(word), "{word}: {text}");
        }
        // No name, number, path or policy of another.
        for before in ["echo-stateful", "Instance "] {
            let digits = text.split(before).skip(1).filter_map(|rest| rest.chars().next());
            let digits: Vec<_> = digits.filter(char::is_ascii_digit).collect();
            assert!(!digits.is_empty() && digits.iter().all(|digit| *digit == '3'), "{text}");
        }
        for word in ["0-9", "Front door", "12345", "no token", "Ten"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("3000/echo-stateful"), "{text}");
    }
}

#[tokio::test]
async fn what_each_is_follows_the_configuration_and_a_reload() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("writes");
    write(
        "[hosts]\nfront_door = 'sticky'\n[instances.3.auth]\nmode = 'tokens'\ntokens = ['alice=s3cret-of-alice']\n\
         [instances.5.protocol]\nversions = ['2025-06-18', '2024-11-05']\n\
         [instances.5.session]\nmax_data_bytes = 1000\ntimeout_seconds = 0.5\n",
    );
    let server = TestServer::start_from(file.path(), &[]).await;
    for text in both(&server, "localhost").await {
        for word in [
            "0-2, 4, 6-9",
            "a configured token",
            "2024-11-05, 2025-06-18",
            "0.5 idle seconds",
            "1000 bytes of data each",
            "100000 sessions",
            "1 MiB a request",
            "new sessions take turns",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        for secret in ["s3cret", "alice", "admin-secret"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    write(
        "[hosts]\nbase_domains = ['other.test']\n[instances.3.auth]\nmode = 'tokens'\ntokens = ['alice=s3cret-of-alice']\n\
         [instances.7.session]\ncapacity = 77\n",
    );
    server.operate("POST", "/debug/reload").send().await.expect_status(200);
    for text in both(&server, "localhost").await {
        for word in ["77 sessions", "http://echo-stateful7.other.test/mcp", "instance 0 answers"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[tokio::test]
async fn who_runs_here_is_text_and_no_markup() {
    let name = r#"<b>"pod"&'{{here}}"#;
    let server = TestServer::start(&[("HOSTNAME", name), ("MCP_ECHO_PROFILE", "sessioned")]).await;
    let html = page(&server, "localhost").send().await.text();
    let shown = "&#60;b&#62;&#34;pod&#34;&#38;&#39;&#123;&#123;here&#125;&#125;, profile sessioned";
    let version = env!("CARGO_PKG_VERSION");
    assert!(html.contains(&format!("<p>{version}, replica {shown}</p>")), "{html}");
}

#[tokio::test]
async fn it_runs_what_it_brings_and_nothing_else() {
    let server = TestServer::start(&[]).await;
    for host in ["localhost".to_owned(), instance_host(3)] {
        let page = page(&server, &host).send().await;
        let document = page.text();
        let policy = page.header("content-security-policy").expect("a policy").to_owned();
        let inline = |opening: &str, closing: &str| {
            let parts: Vec<_> = document.split(opening).collect();
            let [_, rest] = &*parts else { panic!("{} of {opening}", parts.len() - 1) };
            let (inline, _) = rest.split_once(closing).expect("it ends");
            assert!(inline.len() > 500, "{opening} holds something");
            format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inline)))
        };
        let expected = [
            "default-src 'none'".to_owned(),
            format!("script-src {}", inline("<script type=\"module\">", "</script>")),
            format!("style-src {}", inline("<style>", "</style>")),
            "img-src 'self'".to_owned(),
            "base-uri 'none'".to_owned(),
            "form-action 'none'".to_owned(),
            "frame-ancestors 'none'".to_owned(),
            "require-trusted-types-for 'script'".to_owned(),
            "trusted-types 'none'".to_owned(),
        ];
        assert_eq!(policy.split("; ").collect::<Vec<_>>(), expected);
        for (name, value) in
            [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(page.header(name), Some(value));
        }
        for word in ["src=", "style=", "onclick=", "@import", "href=\"http", "url("] {
            assert!(!document.contains(word), "{word}");
        }
        assert!(document.len() < 16 * 1024, "{} bytes", document.len());
    }
}

#[tokio::test]
async fn the_scheme_is_a_trusted_proxy_s_to_say() {
    let ask = async |server: &TestServer, scheme: &str| -> Answer {
        let asked = server.request("GET", "/").host("echo-stateful.example.com");
        asked.header("X-Forwarded-Proto", scheme).send().await
    };
    let server = TestServer::start(&[]).await;
    let text = ask(&server, "https").await.text();
    assert!(
        text.contains("http://echo-stateful9.example.com/mcp") && !text.contains("https:"),
        "{text}"
    );
    let server = TestServer::start(&[("MCP_ECHO_HTTP__TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let text = ask(&server, "https").await.text();
    assert!(
        text.contains("https://echo-stateful9.example.com/mcp") && !text.contains("http:"),
        "{text}"
    );
    ask(&server, "gopher").await.expect_status(400);
}

#[tokio::test]
async fn html_is_for_who_names_it() {
    let server = TestServer::start(&[]).await;
    for (accept, html) in [
        (BROWSER, true),
        ("text/html", true),
        ("application/json, TEXT/HTML;level=1;q=0.1", true),
        ("text/html; q=0, */*", false),
        ("*/*", false),
        ("text/*", false),
        ("application/json", false),
        ("", false),
    ] {
        let answer = server.request("GET", "/").header("Accept", accept).send().await;
        let found = answer.header("content-type").expect("a type").starts_with("text/html");
        assert_eq!(found, html, "{accept:?}");
    }
    let none = server.request("GET", "/").send().await;
    assert_eq!(none.header("content-type"), Some("text/plain; charset=utf-8"));
    let several = server.request("GET", "/").header("Accept", "*/*").header("Accept", "text/html");
    assert_eq!(several.send().await.header("content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn it_takes_get_and_head_alone_and_has_an_icon() {
    let server = TestServer::start(&[]).await;
    for host in ["localhost".to_owned(), instance_host(3)] {
        for path in ["/", "/favicon.ico"] {
            let get = server.request("GET", path).host(&host).send().await;
            let mut connection = server.request("HEAD", path).host(&host).begin().await;
            let head = connection.head().await;
            head.expect_status(200);
            for name in ["content-type", "content-length"] {
                assert_eq!(head.header(name), get.header(name), "{name}");
            }
            for method in ["POST", "DELETE", "PUT"] {
                let answer = server.request(method, path).host(&host).send().await;
                answer.expect_status(405);
                assert_eq!(answer.header("allow"), Some("GET,HEAD"));
                assert!(answer.json()["error"].is_string());
            }
            server.request("OPTIONS", path).host(&host).send().await.expect_status(204);
        }
        let icon = server.request("GET", "/favicon.ico").host(&host).send().await;
        assert_eq!(icon.header("content-type"), Some("image/svg+xml"));
        assert!(icon.text().starts_with("<svg") && icon.body.len() < 1000);
    }
    server.request("GET", "/").host("evil.example").send().await.expect_status(421);
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn it_is_no_instance_s_traffic_and_nobody_s_error() {
    let server = TestServer::start(&[]).await;
    for host in ["localhost".to_owned(), instance_host(6)] {
        for path in ["/", "/favicon.ico"] {
            server.request("GET", path).host(&host).send().await.expect_status(200);
            server.request("POST", path).host(&host).send().await.expect_status(405);
        }
    }
    let numbers = || async { server.operate("GET", "/metrics").send().await.text() };
    let sample = r#"mcp_echo_requests_total{mcp_instance="none",method="elsewhere",era="none",status="2xx"} 4"#;
    let text = numbers().await;
    assert!(text.contains(sample), "{text}");
    for instance in &server.instances {
        let totals = instance.state.requests.totals();
        assert_eq!((totals.requests, totals.errors), (0, 0), "{:?}", instance.id);
    }
}

#[tokio::test]
async fn what_is_the_operators_is_named_where_it_is() {
    let own_port = [("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0")];
    let nowhere = [("ADMIN_TOKEN", ""), ("DEBUG", "false")];
    for variables in [&own_port[..], &nowhere[..]] {
        let server = TestServer::start(variables).await;
        for host in ["localhost".to_owned(), instance_host(3)] {
            for text in both(&server, &host).await {
                assert!(!text.contains("/debug"), "{text}");
            }
        }
        if let Some(admin) = server.admin {
            server.request("GET", "/").to(admin).send().await.expect_status(404);
        }
    }
}

#[tokio::test]
async fn the_curl_line_works() {
    let server = TestServer::start(&[]).await;
    let [_, text] = both(&server, &server.address.to_string()).await;
    let line = &text[text.find("curl -s").expect("a curl line")..];
    let (line, _) = line.split_once("\n\n").expect("it ends");
    let line = line.to_owned();
    let ran =
        tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &line]).output());
    let output = ran.await.expect("runs").expect("bash");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.contains(r#""text":"hello""#), "{answer}");
}
