//! Requests that nobody thought of, made from the API's document: whatever is asked, the answer is one that the
//! document declares (see [`crate::support::contract`]), and none of them is our fault.

use crate::{
    isolation::World,
    support::{
        Answer,
        contract::contract,
        generate::{Asked, Whose, asked, asked_of, fill},
        send,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use reqwest::Method;
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How long strange requests are made.
const SPAN: Duration = Duration::from_secs(15);
/// Of so many at a time.
const BATCH: u32 = 50;
/// Ids of one kind that are kept for later requests.
const KEPT: usize = 8;

/// A server with one of everything, and the ids of what has been made.
struct Asker {
    world: World,
    known: RefCell<BTreeMap<String, Vec<String>>>,
    statuses: RefCell<BTreeMap<&'static str, BTreeMap<u16, usize>>>,
}

impl Asker {
    async fn new() -> Self {
        let world = World::new().await;
        let mut known: BTreeMap<_, _> =
            world.ids.iter().map(|(name, id)| ((*name).to_owned(), vec![id.clone()])).collect();
        known.insert("url".to_owned(), vec![world.url()]);
        // Whatever is sent waits somewhere, too.
        let (connection, rule) = Self::waiting(&world).await;
        known.entry("rule".to_owned()).or_default().push(rule);
        known.entry("connection".to_owned()).or_default().push(connection);
        for _ in 0..2 {
            let event = world.weft.send_event("order.paid", serde_json::json!({ "n": 1 })).await;
            world.weft.event_as(&event, "pending").await;
            known.entry("event".to_owned()).or_default().push(event);
        }
        Self { world, known: RefCell::new(known), statuses: RefCell::default() }
    }

    /// A connection that is paused, and a rule that sends everything there.
    async fn waiting(world: &World) -> (String, String) {
        let connection = world.weft.webhook(&world.url()).await;
        let path = format!("/connections/{connection}/pause");
        world.weft.post(&path, Value::Null).await.answered(200, "it waits");
        let rule = world.weft.rule("*", &connection).await;
        (connection, rule)
    }

    /// The same again, for what was deleted is asked about all the same.
    async fn renew(&self) {
        let (connection, rule) = Self::waiting(&self.world).await;
        self.remember("connection", connection);
        self.remember("rule", rule);
    }

    fn remember(&self, kind: &str, id: String) {
        let mut known = self.known.borrow_mut();
        let all = known.entry(kind.to_owned()).or_default();
        all.push(id);
        if all.len() > KEPT {
            // What was there from the beginning stays.
            all.remove(3);
        }
    }

    /// An id of this kind that was there lately.
    fn known(&self, kind: &str, number: usize) -> Option<String> {
        let known = self.known.borrow();
        let all = known.get(kind).filter(|all| !all.is_empty())?;
        all.get(number % all.len()).cloned()
    }

    /// Keeps the ids of what an answer says was made.
    fn keep(&self, answer: &Answer) {
        let made = ["workspace", "connection", "rule", "event", "replay", "invitation"];
        let mut found: Vec<(&str, &Value)> =
            made.iter().map(|kind| (*kind, &answer.body[kind]["id"])).collect();
        found.push(("session", &answer.body["session_id"]));
        found.push(("access_key", &answer.body["key"]["access_key"]));
        for (kind, id) in found {
            if let (Some(id), 200 | 201) = (id.as_str(), answer.status) {
                self.remember(kind, id.to_owned());
            }
        }
    }

    async fn ask(&self, asked: &Asked) -> Answer {
        let operation = contract().operations().nth(asked.operation).expect("it is one of them");
        let fill = |text: &str| fill(text, &|kind, number| self.known(kind, number));
        let mut ids = asked.ids.iter();
        let path = operation.path.split('/').map(|part| match part.starts_with('{') {
            true => fill(ids.next().expect("an id for each name")),
            false => part.to_owned(),
        });
        let path = path.collect::<Vec<_>>().join("/");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(asked.query.iter().map(|(name, value)| (name, fill(value))));
        let target = format!("{path}?{}", query.finish());
        let method = Method::from_bytes(operation.method.to_uppercase().as_bytes()).expect("a method");
        let weft = &self.world.weft;
        let mut request = weft.request(method, &target);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        request = match asked.whose {
            Whose::Machine => request.bearer_auth(weft.token()),
            Whose::Sender => request.header("x-meshes-publishable-key", &weft.publishable_key),
            Whose::Nobody => request,
        };
        if let Some(body) = &asked.body {
            request = request.header("content-type", "application/json").body(fill(body));
        }
        let answer = send(request).await;
        assert!(answer.status < 500, "{}: {} {asked:?}", operation.id, answer.text);
        *self.statuses.borrow_mut().entry(operation.id).or_default().entry(answer.status).or_default() += 1;
        self.keep(&answer);
        answer
    }
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    // The same requests each time, unless another seed is asked for.
    let seed =
        std::env::var("WEFT_TEST_SEED").map_or(7, |seed| seed.parse().expect("WEFT_TEST_SEED is a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// What the document calls a request is one: every operation can be asked so that it does what it is for.
#[tokio::test]
async fn every_operation_does_what_it_is_asked_as_the_document_says() {
    /// What needs more than a request that fits: a secret somebody was told, a second owner, an app at a vendor.
    #[rustfmt::skip] // one a line is too many
    const PARTICULAR: [&str; 7] = [
        "acceptInvitation", "signIn", "signOut", "changePassword", "resetPassword", "deleteUser", "startConnectionConsent",
    ];
    const TRIES: usize = 30;
    let asker = Asker::new().await;
    let mut runner = runner(1);
    let mut never = BTreeSet::new();
    let mut operations: Vec<_> = contract().operations().enumerate().collect();
    // What waits is called off before it is let go, and what others need goes last.
    operations.sort_by_key(|(_, operation)| match operation.id {
        "cancelEventRule" => 0,
        "cancelEvent" => 1,
        _ if operation.method == "delete" => 3,
        _ => 2,
    });
    for (number, operation) in operations {
        let mut answers = Vec::new();
        let requests = asked_of(contract(), number, true);
        for _ in 0..TRIES {
            let asked = requests.new_tree(&mut runner).expect("a request").current();
            let answer = asker.ask(&asked).await;
            answers.push(format!("{} {} {asked:?}", answer.status, answer.text));
            if answer.status < 300 {
                answers.clear();
                break;
            }
        }
        if !answers.is_empty() && !PARTICULAR.contains(&operation.id) {
            eprintln!("{}: {:#?}", operation.id, answers.iter().take(3).collect::<Vec<_>>());
            never.insert(operation.id);
        }
    }
    assert!(never.is_empty(), "never did what they were asked: {never:?}");
    asker.world.weft.stop().await;
}

#[test]
fn whatever_is_asked_is_answered_as_the_document_says_and_never_with_a_fault() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asker = runtime.block_on(Asker::new());
    let (requests, mut seeds) = (asked(contract(), false), runner(BATCH));
    let end = Instant::now() + SPAN;
    let mut outcome = Ok(());
    while outcome.is_ok() && Instant::now() < end {
        runtime.block_on(asker.renew());
        // A runner makes so many cases and no more.
        let mut runner = TestRunner::new_with_rng(seeds.config().clone(), seeds.new_rng());
        outcome = runner.run(&requests, |asked| {
            runtime.block_on(asker.ask(&asked));
            Ok::<_, TestCaseError>(())
        });
    }
    if std::env::var_os("WEFT_TEST_VERBOSE").is_some() {
        eprintln!("{:#?}", asker.statuses.borrow());
    }
    outcome.expect("every answer is declared, and none is a fault of ours");
    runtime.block_on(asker.world.weft.stop());
}
