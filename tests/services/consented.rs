//! Connected in a browser: at the vendor's own addresses, and with what its answers tell.

use crate::{
    fakes::{Fake, Fault},
    story::{Story, payload},
    support::{
        Browser, Vendor, Weft, http_client, text, until,
        vendor::{CLIENT_ID, CLIENT_SECRET, Traits},
    },
    vendors,
};
use actors::domain::secret::Secret;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{Response, request::Parts},
};
use reqwest::Url;
use serde_json::{Value, json};
use std::{cell::Cell, net::SocketAddr};
use tokio::{net::TcpListener, task::JoinHandle};
use weft::config::Registration;

/// How a service is connected in a browser, beside what its story says.
pub struct Consent<T> {
    pub story: Story<T>,
    /// The vendor's hosts that consents need, beside those of its service.
    pub hosts: &'static [&'static str],
    /// Where the vendor asks the person, and where it gives tokens.
    pub paths: [&'static str; 2],
    pub traits: Traits,
    /// What its token answers tell beside tokens. Given the service's address, for those whose accounts have their own.
    pub tells: fn(&str) -> Value,
    /// What the consent goes by.
    pub metadata: Value,
    /// What the connection knows of its account afterwards.
    pub knows: Value,
    /// From here on the service takes this token. None: it takes the operator's, whatever the consent gave.
    pub take: Option<fn(&mut T, &'static str)>,
    /// What the service says once the consent is over. None: what it says to any token that has ended.
    pub gone: Option<Fault>,
}

/// The vendor's hosts: consents and tokens are its, all else its service's.
struct Front {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Front {
    async fn start(vendor: SocketAddr, paths: [&'static str; 2], service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let behind = if paths.contains(&parts.uri.path()) { vendor } else { service };
            pass_on(behind, parts, body).await
        });
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, serving }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(behind: SocketAddr, parts: Parts, body: Body) -> Response<Body> {
    let url = Url::parse(&format!("http://{behind}{}", parts.uri)).expect("a URL");
    let mut request = http_client().request(parts.method, url);
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "host") {
        request = request.header(name, value);
    }
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let answer = request.body(body).send().await.expect("it answers");
    let mut passed = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        passed = passed.header(name, value);
    }
    passed.body(Body::from(answer.bytes().await.expect("a body"))).expect("an answer")
}

async fn connect<T: Default + Send + 'static>(consent: Consent<T>) {
    let Consent { story, hosts, paths, traits, tells, metadata, knows, take, gone } = consent;
    let (kind, refreshes) = (story.kind, traits.refreshes);
    let fake = Fake::start(story.routes).await;
    let vendor = Vendor::with(traits, paths[0], paths[1]).await;
    let front = Front::start(vendor.address, paths, fake.address).await;
    // What the vendor gives from here on.
    let token = Cell::new("");
    let give = |next: &'static str| {
        token.set(next);
        let mut tells = tells(&front.url());
        tells["access_token"] = next.into();
        vendor.tables().tells = tells;
    };
    // The service has nobody, and takes that token alone.
    let renew = || {
        let mut tables = fake.tables();
        *tables = T::default();
        if let Some(take) = take {
            take(&mut tables, token.get());
        }
    };
    let weft = Weft::with(|config| {
        let hosts = story.hosts.iter().chain(hosts);
        config.hosts.extend(hosts.map(|host| ((*host).to_owned(), front.url())));
        let bot_token = take.is_none().then(|| Secret::new(story.secret));
        let client_secret = Some(Secret::new(CLIENT_SECRET));
        let app = Registration { client_id: CLIENT_ID.to_owned(), client_secret, bot_token };
        config.oauth.insert(kind.to_owned(), app);
    })
    .await;
    let begin = async |body: Value| {
        let begun = weft.post("/connections/oauth", body).await.answered(201, kind);
        text(&begun["url"])
    };
    let new = json!({ "workspace": weft.workspace, "type": kind, "name": "Ours", "metadata": metadata });
    give(story.secret);

    vendor.tables().says_no = Some(("access_denied", "Ada said no"));
    let answer = Browser::default().follow(&begin(new.clone()).await).await;
    answer.page(403, "access_denied: Ada said no", kind);
    assert_eq!(weft.get("/connections").await.answered(200, kind)["count"], 0, "{kind}");

    vendor.tables().says_no = None;
    let mut browser = Browser::default();
    let back = browser.up_to_callback(&begin(new.clone()).await).await;
    browser.get(&back).await.page(200, "Connected", kind);
    browser.get(&back).await.page(400, "This link is over", kind);
    let listed = weft.get("/connections").await.answered(200, kind);
    let [connection] = &listed["records"].as_array().expect("a list")[..] else { panic!("{kind}: {listed}") };
    for (name, value) in knows.as_object().expect("an object") {
        assert_eq!(&connection["metadata"][name], value, "{kind} knows {name}: {connection}");
    }
    let shown = connection.to_string();
    assert!(!shown.contains(story.secret) && !shown.contains(CLIENT_SECRET), "{kind}: {shown}");

    let id = text(&connection["id"]);
    let path = format!("/connections/{id}");
    if !story.mapping.is_empty() {
        let of = |(dest, path): &(&str, &str)| json!({ "dest": dest, "source": { "type": "path", "value": path } });
        let fields: Vec<_> = story.mapping.iter().map(of).collect();
        let body = json!({ "schema": { "schema_version": 1, "fields": fields } });
        weft.put(&format!("{path}/mappings/default"), body).await.answered(200, kind);
    }
    let act = &story.actions[0];
    let rule =
        json!({ "workspace": weft.workspace, "event": "a.b", "connection": id, "metadata": act.metadata });
    weft.post("/rules", rule).await.answered(201, kind);
    let deliver = async |why: &str| {
        renew();
        let event = weft.send_event("a.b", payload()).await;
        weft.event_as(&event, "completed").await;
        assert!((act.is_done)(&fake.tables()), "{kind}: {why}: {}", fake.shown());
    };
    deliver("connected").await;

    // The token has ended: the next one is asked for, once.
    if refreshes && take.is_some() {
        give("the-second-token");
        // Several find out at once.
        renew();
        let events: Vec<_> =
            futures_util::future::join_all((0..3).map(|_| weft.send_event("a.b", payload()))).await;
        for event in &events {
            weft.event_as(event, "completed").await;
        }
        deliver("and kept").await;
        assert_eq!(vendor.tables().asked_for("refresh_token"), 1, "{kind}");
    }

    // The consent is over: what comes waits until the account is connected again.
    vendor.tables().forget_all();
    give("the-third-token");
    renew();
    fake.fail(gone.into_iter().flat_map(|gone| std::iter::repeat_n(gone, 8)));
    let waiting = weft.send_event("a.b", payload()).await;
    let inactive = until(&format!("{kind} is inactive"), async || {
        let shown = weft.get(&path).await.answered(200, kind);
        (shown["active"] == false).then_some(shown)
    })
    .await;
    let reason = text(&inactive["inactive_reason"]);
    assert!(reason.starts_with("oauth_"), "{kind}: {reason}");
    fake.forget_faults();
    let url = begin(json!({ "connection": id })).await;
    Browser::default().follow(&url).await.page(200, "is connected again", kind);
    weft.event_as(&waiting, "completed").await;
    assert!((act.is_done)(&fake.tables()), "{kind}: what waited came: {}", fake.shown());
    weft.stop().await;
}

/// A test for each, and the list of them.
macro_rules! consents {
    ($($kind:ident),* $(,)?) => {
        pub const ALL: &[&str] = &[$(stringify!($kind)),*];
        $(
            #[tokio::test]
            async fn $kind() {
                connect(vendors::$kind()).await;
            }
        )*
    };
}

/// Nothing of it is at the host where other orgs log in.
#[tokio::test]
async fn a_sandbox_is_asked_at_its_own_host() {
    let metadata = json!({ "login_url": "https://acme--dev.sandbox.my.salesforce.com" });
    let hosts = &["acme--dev.sandbox.my.salesforce.com"];
    connect(Consent { hosts, knows: metadata.clone(), metadata, ..vendors::salesforce() }).await;
}

/// The operator's app shows its secret where the login address says.
#[tokio::test]
async fn an_org_logs_in_at_a_host_of_salesforces_and_nowhere_else() {
    let weft = Weft::with(|config| {
        let client_secret = Some(Secret::new(CLIENT_SECRET));
        let app = Registration { client_id: CLIENT_ID.to_owned(), client_secret, bot_token: None };
        config.oauth.insert("salesforce".to_owned(), app);
    })
    .await;
    let begin = async |login_url: &str| {
        let metadata = json!({ "login_url": login_url, "instance_url": "https://a.example" });
        let body = json!({ "workspace": weft.workspace, "type": "salesforce", "name": "Ours", "metadata": metadata });
        weft.post("/connections/oauth", body).await
    };
    for good in
        ["https://test.salesforce.com", "https://test.salesforce.com/", "https://a-b.my.salesforce.com"]
    {
        begin(good).await.answered(201, good);
    }
    for bad in [
        "https://evil.example",
        "https://evil.example/.my.salesforce.com",
        "https://evil.example#.my.salesforce.com",
        "https://evil.example?x=.my.salesforce.com",
        "https://ada@a.my.salesforce.com",
        "https://a.my.salesforce.com:444",
        "https://a.my.salesforce.com/path",
        "https://a.my.salesforce.com.evil.example",
        "https://.my.salesforce.com",
        "https://evil-my.salesforce.com",
        "http://login.salesforce.com",
        "login.salesforce.com",
    ] {
        let refused = begin(bad).await;
        refused.refused(400, "metadata.login_url", bad);
    }
    weft.stop().await;
}

consents! {
    aweber,
    discord,
    hubspot,
    intercom,
    mailchimp,
    pipedrive,
    salesforce,
    slack,
    zoom,
}
