//! What every action of every destination is asked.

use crate::fakes::{Fake, Fault};
use actors::{
    destinations::{
        self, Prepared,
        limits::Limits,
        outgoing::Outgoing,
        planned::Planned,
        setup::{Operator, Setup, TokenError, Tokens},
    },
    domain::{
        connection::InactiveReason,
        delivery::{Outcome, Report},
        event::Event,
        ids::{DeliveryId, EventId, OrganizationId, RuleId, WorkspaceId},
        secret::Secret,
        timestamp::Timestamp,
    },
    transport::{Http, HttpArgs, address::AddressPolicy, resolve::Dns},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// 2026-01-20T21:14:16Z
pub const NOW: Timestamp = Timestamp(1_768_943_656_000);

/// The example event of the vendors' contracts.
pub fn payload() -> Value {
    json!({ "id": "usr_123", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "source": "signup", "tier": "pro" })
}

/// One connection to a service of its own.
pub struct Subject {
    kind: &'static str,
    settings: Map<String, Value>,
    hosts: BTreeMap<String, String>,
    http: Http,
    limits: Limits,
    mapping: Option<Value>,
    tokens: Option<Arc<Consented>>,
    pub timeout: Duration,
    delivery: u8,
}

/// What came of one attempt, and what the next one would be told.
pub type Came = Report;

impl Subject {
    pub fn new(kind: &'static str, settings: Value) -> Self {
        let policy =
            AddressPolicy { allow: vec!["127.0.0.0/8".parse().expect("a network")], allow_http: true };
        let resolver = Arc::new(Dns::system().expect("a resolver"));
        let http = Http::new(HttpArgs { policy, resolver, extra_roots_pem: None }).expect("a client");
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        Self {
            kind,
            settings,
            hosts: BTreeMap::new(),
            http,
            limits: Limits::default(),
            mapping: None,
            tokens: None,
            timeout: Duration::from_secs(5),
            delivery: 1,
        }
    }

    /// A vendor's host is this service.
    pub fn at<T>(mut self, host: &str, fake: &Fake<T>) -> Self {
        self.hosts.insert(host.to_owned(), format!("http://{}", fake.address));
        self
    }

    /// Connected in a browser: with these tokens.
    pub fn tokens(mut self, tokens: &Arc<Consented>) -> Self {
        self.tokens = Some(tokens.clone());
        self
    }

    /// Maps fields as this schema says, and not by their names.
    pub fn mapping(mut self, fields: &[(&str, &str)]) -> Self {
        let field = |(dest, path): &(&str, &str)| json!({ "dest": dest, "source": { "type": "path", "value": path } });
        self.mapping =
            Some(json!({ "schema_version": 1, "fields": fields.iter().map(field).collect::<Vec<_>>() }));
        self
    }

    /// From here on another delivery.
    pub fn next_delivery(&mut self) {
        self.delivery += 1;
        self.limits = Limits::default();
    }

    /// The same connection at work on another delivery.
    pub fn another(&self) -> Self {
        let Self { settings, hosts, http, limits, mapping, tokens, .. } = self;
        let (settings, hosts, http, limits) = (settings.clone(), hosts.clone(), http.clone(), limits.clone());
        let (mapping, tokens, delivery) = (mapping.clone(), tokens.clone(), self.delivery + 100);
        Self {
            kind: self.kind,
            settings,
            hosts,
            http,
            limits,
            mapping,
            tokens,
            timeout: self.timeout,
            delivery,
        }
    }

    /// The next delivery, with all limits as they are.
    pub fn another_delivery(&mut self) {
        self.delivery += 1;
    }

    /// The settings, judged.
    pub fn checked(&self) -> Result<Map<String, Value>, Vec<destinations::FieldError>> {
        destinations::find(self.kind).expect("it is declared").check(&self.settings, self.http.policy())
    }

    fn setup<'s>(&self, settings: &'s Map<String, Value>) -> Setup<'s> {
        let mut setup = Setup::of(settings);
        let operator = Operator { hosts: self.hosts.clone(), ..Operator::default() };
        (setup.operator, setup.limits) = (Arc::new(operator), self.limits.clone());
        setup.tokens = self.tokens.clone().map(|tokens| tokens as Arc<dyn Tokens>);
        setup
    }

    pub fn prepared(&self) -> Box<dyn Prepared> {
        let destination = destinations::find(self.kind).expect("it is declared");
        let settings = destination.check(&self.settings, self.http.policy());
        let settings = settings.unwrap_or_else(|errors| panic!("{}: {errors:?}", self.kind));
        let mut setup = self.setup(&settings);
        if let Some(mapping) = &self.mapping {
            let text = mapping.to_string();
            let read = actors::domain::payload::Json::parse(text.as_bytes()).expect("JSON");
            setup.mapping = Some(actors::domain::mapping::Schema::parse(&read).expect("a mapping"));
        }
        destination.prepare(setup).unwrap_or_else(|err| panic!("{}: {err}", self.kind))
    }

    pub async fn deliver(&self, metadata: &Value, payload: &Value) -> Came {
        self.deliver_after(metadata, payload, None).await
    }

    /// One attempt, after one that left notes.
    pub async fn deliver_after(&self, metadata: &Value, payload: &Value, notes: Option<&str>) -> Came {
        let prepared = self.prepared();
        self.outgoing(metadata, payload, notes, async |out| prepared.deliver(out, &self.http).await).await
    }

    /// What an attempt would send first.
    pub async fn plan(&self, metadata: &Value, payload: &Value) -> Result<Planned, Came> {
        let prepared = self.prepared();
        self.outgoing(metadata, payload, None, async |out| prepared.plan(out).await).await
    }

    async fn outgoing<R>(
        &self,
        metadata: &Value,
        payload: &Value,
        notes: Option<&str>,
        then: impl AsyncFnOnce(&Outgoing<'_>) -> R,
    ) -> R {
        let event = Event {
            id: EventId::from_bytes([7; 16]),
            organization_id: OrganizationId::from_bytes([1; 16]),
            workspace_id: WorkspaceId::from_bytes([2; 16]),
            name: "contact.created".to_owned(),
            resource: "global".to_owned(),
            resource_id: None,
            created_by: "test".to_owned(),
            accepted_at: NOW,
        };
        let (payload, action) = (Bytes::from(payload.to_string()), metadata.to_string());
        let out = Outgoing {
            event: &event,
            payload: &payload,
            delivery_id: DeliveryId::of(event.id, RuleId::from_bytes([self.delivery; 16])),
            attempt: 1,
            sent_at: NOW,
            action: &action,
            notes,
            timeout: self.timeout,
        };
        then(&out).await
    }

    /// The settings are tried out, as when they are saved.
    pub async fn probe(&self) -> Result<(), String> {
        let destination = destinations::find(self.kind).expect("it is declared");
        let settings = destination.check(&self.settings, self.http.policy()).expect("good settings");
        destination.probe(self.setup(&settings), &self.http, NOW, self.timeout).await
    }

    /// What is asked once after a consent.
    pub async fn discover(&self) -> Result<Map<String, Value>, String> {
        let destination = destinations::find(self.kind).expect("it is declared");
        let settings = destination.check(&self.settings, self.http.policy()).expect("good settings");
        destination.discover(self.setup(&settings), &self.http, NOW, self.timeout).await
    }

    pub fn http(&self) -> &Http {
        &self.http
    }
}

/// The tokens of a consent: the first is used up one by one as the service refuses them; none left is lost.
pub struct Consented(Mutex<Vec<&'static str>>);

impl Consented {
    pub fn of(tokens: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(tokens.to_vec())))
    }
}

#[async_trait::async_trait]
impl Tokens for Consented {
    async fn access(&self) -> Result<Secret, TokenError> {
        let reason = InactiveReason::OauthAuthorizationRevoked;
        let lost = || TokenError::Lost { reason, message: "invalid_grant: connect it again".to_owned() };
        self.0.lock().expect("no test panicked").first().map(|token| Secret::new(*token)).ok_or_else(lost)
    }

    async fn instead_of(&self, refused: &Secret) -> Result<Secret, TokenError> {
        self.0.lock().expect("no test panicked").retain(|token| *token != refused.expose());
        self.access().await
    }
}

/// Whether a service's tables are as a person would expect.
pub type IsDone<'c, T> = &'c (dyn Fn(&T) -> bool + Sync);

/// One action, and how its service says no.
pub struct Case<'c, T> {
    pub metadata: Value,
    pub payload: Value,
    /// Whether the service's tables are as a person would expect.
    pub is_done: IsDone<'c, T>,
    /// Calls that one delivery takes.
    pub calls: usize,
    /// Whether it may be done twice without harm.
    pub is_repeatable: bool,
    /// A refusal of the last call for good, as the vendor words it, and words that its message must have.
    pub refused: (Fault, &'c str),
    /// The same of too many calls, and the wait it asks for.
    pub slower: (Fault, Duration),
    /// The same of credentials that are not taken (any more).
    pub locked: (Fault, InactiveReason),
}

fn assert_failed(report: &Report, outcome: Outcome, why: &str) {
    assert_eq!(report.outcome, outcome, "{why}: {}", report.message);
    assert!(report.message.len() > 10 && report.message.lines().count() == 1, "{why}: {}", report.message);
}

/// What was planned is what was sent first, without secrets, and is not said to be all where it is not.
fn assert_planned(name: &str, planned: Result<Planned, Report>, sent: &str, calls: usize, secrets: &[&str]) {
    let Planned { request, is_whole, .. } = planned.unwrap_or_else(|report| panic!("{name}: {report:?}"));
    let told = format!("{request:?}");
    assert!(secrets.iter().all(|secret| !told.contains(secret)), "{name}: {told}");
    let first = sent.split("\n\n").next().unwrap_or_default();
    let (line, headers) = first.split_once('\n').unwrap_or((first, ""));
    let url = url::Url::parse(&request.url).expect("a URL");
    let target = &url[url::Position::BeforePath..];
    let is_secret = target.contains("[redacted]") || target.contains("%5Bredacted%5D");
    assert!(is_secret || line == format!("{} {target}", request.method), "{name}: {line} is not {told}");
    for header in headers.lines().filter(|header| !header.is_empty()) {
        let (key, value) = header.split_once(": ").expect("a header");
        let planned = request.headers.iter().find(|(planned, _)| planned == key).map(|(_, value)| &value[..]);
        assert!(planned == Some(value) || planned == Some("[redacted]"), "{name}: {header} is not in {told}");
    }
    if !request.body.is_empty() {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_else(|_| request.body.clone().into());
        let pretty = serde_json::to_string_pretty(&body).expect("JSON");
        assert!(sent.contains(&pretty) || sent.contains(&request.body), "{name}: {sent} lacks {pretty}");
    }
    assert!(!is_whole || calls == 1, "{name}: more was sent than {told}");
}

/// Asks an action everything. `name` is that of the snapshot of its requests.
pub async fn ask<T: Default + Send + 'static>(
    name: &str,
    subject: &mut Subject,
    fake: &Fake<T>,
    secrets: &[&str],
    case: Case<'_, T>,
) {
    let Case { metadata, payload, is_done, calls, is_repeatable, refused, slower, locked } = case;
    let before = |faults: Fault| std::iter::repeat_n(Fault::None, calls - 1).chain([faults]);
    fake.seen();

    let planned = subject.plan(&metadata, &payload).await;
    assert!(fake.seen().is_empty(), "{name}: a plan asks nobody");
    let report = subject.deliver(&metadata, &payload).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{name}: {}", report.message);
    assert!(is_done(&fake.tables()), "{name}: the service is as expected");
    let shown = fake.shown();
    assert_planned(name, planned, &shown, calls, secrets);
    assert_eq!(shown.matches("\naccept: ").count(), calls, "{name}: {shown}");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name.to_owned(), shown);
    });

    subject.next_delivery();
    let again = subject.deliver(&metadata, &payload).await;
    assert_eq!(again.outcome, Outcome::Delivered, "{name}: done again: {}", again.message);
    assert!(!is_repeatable || is_done(&fake.tables()), "{name}: done again");

    subject.next_delivery();
    fake.fail(before(refused.0));
    let report = subject.deliver(&metadata, &payload).await;
    assert_failed(&report, Outcome::RejectedClientError, name);
    assert!(report.message.contains(refused.1), "{name}: {} lacks {}", report.message, refused.1);

    subject.next_delivery();
    fake.fail(before(slower.0));
    let report = subject.deliver(&metadata, &payload).await;
    assert_failed(&report, Outcome::RateLimited, name);
    assert_eq!(report.retry_after, Some(slower.1), "{name}: {}", report.message);

    subject.next_delivery();
    fake.fail(before(locked.0));
    let report = subject.deliver(&metadata, &payload).await;
    assert_failed(&report, Outcome::AuthFailed, name);
    assert_eq!(report.inactive, Some(locked.1), "{name}");

    // A server's error and then none: where calls were made before it is asked once more at once.
    subject.next_delivery();
    fake.fail(before(Fault::status(503, "<html>down for maintenance</html>").with("retry-after", "7")));
    let report = subject.deliver(&metadata, &payload).await;
    assert_failed(&report, Outcome::RejectedServerError, name);
    assert_eq!(report.retry_after, Some(Duration::from_secs(7)), "{name}");
    let report = subject.deliver_after(&metadata, &payload, report.notes.as_deref()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{name}: after a server's error: {}", report.message);

    for (why, fault) in [("silence", Fault::Silence), ("the answer is lost", Fault::Lost)] {
        subject.next_delivery();
        subject.timeout = Duration::from_millis(600);
        fake.fail(before(fault));
        let report = subject.deliver(&metadata, &payload).await;
        assert_failed(&report, Outcome::Timeout, &format!("{name}: {why}"));
        let says_so = report.message.contains("may have been applied");
        assert_eq!(says_so, !is_repeatable, "{name}: {why}: {}", report.message);
        subject.timeout = Duration::from_secs(5);
        let report = subject.deliver_after(&metadata, &payload, report.notes.as_deref()).await;
        assert_eq!(report.outcome, Outcome::Delivered, "{name}: after {why}: {}", report.message);
    }

    // Whatever comes back, it is a report, and tells none of our secrets.
    let echo = format!("{{\"message\":\"you sent {} and {}\"}}", secrets.join(" "), "x".repeat(100_000));
    for hostile in [
        Fault::status(400, &echo),
        Fault::status(500, &echo),
        Fault::status(200, "[[[[[["),
        Fault::status(200, ""),
        Fault::status(200, "null"),
        Fault::status(299, &"{\"a\":".repeat(10_000)),
        Fault::status(599, "\u{0}\u{1}\r\n"),
        Fault::Truncated,
    ] {
        for place in 0..calls {
            subject.next_delivery();
            fake.fail(std::iter::repeat_n(Fault::None, place).chain([hostile.clone()]));
            let report = subject.deliver(&metadata, &payload).await;
            for secret in secrets {
                let told = format!("{report:?}");
                assert!(!told.contains(secret), "{name}: {secret} is told: {told}");
            }
            // A plan that ends early leaves what was scripted: let it go.
            fake.forget_faults();
        }
    }
}
