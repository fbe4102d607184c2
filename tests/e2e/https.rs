//! https, the only way out where the operator says nothing: who answers must be who was asked for.

use crate::support::{AUTHORITY, Hostile, NameServer, Play, Receiver, Record, Reply, Weft, text};
use serde_json::json;
use std::net::Ipv4Addr;

/// A server that may reach 127.0.0.1 by https alone, where the names of these tests lead.
async fn https_only(names: &NameServer, authority: Option<&str>) -> Weft {
    let (names, authority) = (names.address.to_string(), authority.map(Into::into));
    Weft::with(|config| {
        config.outbound_allow = vec!["127.0.0.1/32".parse().expect("a network")];
        config.allow_http = false;
        config.dns = Some(names.parse().expect("an address"));
        config.extra_root_pem = authority;
    })
    .await
}

#[tokio::test]
async fn an_endpoint_is_trusted_by_its_certificate_or_gets_nothing() {
    let names = NameServer::start(|_| Some(vec![Record::A(Ipv4Addr::LOCALHOST)])).await;
    let answer = || vec![Play::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())];
    let (trusting, strict) = (https_only(&names, Some(AUTHORITY)).await, https_only(&names, None).await);
    let plain = Receiver::start(Reply::ok).await;
    #[rustfmt::skip]
    let cases = [
        // why                                server      host             TLS    message
        ("its certificate is right",          &trusting,  "hook.example",  true,  None),
        ("it is another's certificate",       &trusting,  "other.example", true,  Some("the endpoint's certificate is for another name")),
        ("an address has no certificate",     &trusting,  "127.0.0.1",     true,  Some("the endpoint's certificate is for another name")),
        ("nobody we trust vouches for it",    &strict,    "hook.example",  true,  Some("the endpoint's certificate is not signed by a trusted authority")),
        ("it does not speak TLS",             &trusting,  "hook.example",  false, Some("the endpoint does not speak TLS on this port")),
    ];
    for (n, (why, weft, host, is_tls, message)) in cases.into_iter().enumerate() {
        let secure = Hostile::start_tls(answer()).await;
        let port = if is_tls { secure.address.port() } else { plain.address.port() };
        let settings = json!({ "auth_scheme": "bearer", "bearer_token": "t-0-k-e-n" });
        let connection =
            weft.webhook_with(&format!("https://{host}:{port}/hook"), settings, json!({ "retry": [] })).await;
        let name = format!("case.{n}");
        let rule = weft.rule(&name, &connection).await;
        let event = weft.send_event(&name, json!({ "n": n })).await;
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        match message {
            None => assert_eq!(
                (&attempt["outcome_code"], secure.asked()),
                (&json!("delivered"), 1),
                "{why}: {attempt}"
            ),
            Some(message) => {
                assert_eq!(attempt["outcome_code"], "network_error", "{why}");
                assert_eq!(text(&attempt["message"]), message, "{why}");
                assert_eq!(
                    (secure.asked(), plain.so_far().len()),
                    (0, 0),
                    "{why}: not a byte of a request was sent"
                );
            }
        }
    }
    trusting.stop().await;
    strict.stop().await;
}
