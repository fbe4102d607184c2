//! What a destination's answer leads to: delivered, refused, tried again, waited for, parked.

use crate::support::{Hostile, Play, Receiver, Reply, Weft, text};
use actors::domain::timestamp::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

const HOUR_MS: u64 = 3_600_000;

/// A webhook of its own for one case: a rule of this name to the URL, by this policy.
async fn route(weft: &Weft, name: &str, url: &str, settings: Value, policy: Value) -> String {
    let connection = weft.webhook_with(url, settings, policy).await;
    weft.rule(name, &connection).await
}

fn outcomes(attempts: &[Value]) -> Vec<String> {
    attempts.iter().map(|attempt| text(&attempt["outcome_code"])).collect()
}

#[tokio::test]
async fn a_status_decides_what_becomes_of_a_delivery() {
    let weft = Weft::start().await;
    let bearer = || json!({ "auth_scheme": "bearer", "bearer_token": "t-0-k-e-n" });
    const OK: &str = "delivered";
    const REFUSED: &str = "rejected_client_error";
    const BROKEN: &str = "rejected_server_error";
    const SLOWER: &str = "rate_limited";
    const LOCKED: &str = "auth_failed";
    type Case<'c> = (&'c str, &'static [u16], Value, &'c str, &'c [&'c str]);
    #[rustfmt::skip]
    let cases: [Case<'_>; 30] = [
        // why                                        answers                settings      event        outcomes
        ("200",                                       &[200],                json!({}),    "completed", &[OK]),
        ("201",                                       &[201],                json!({}),    "completed", &[OK]),
        ("202",                                       &[202],                json!({}),    "completed", &[OK]),
        ("204",                                       &[204],                json!({}),    "completed", &[OK]),
        ("299",                                       &[299],                json!({}),    "completed", &[OK]),
        ("301 is an answer",                          &[301],                json!({}),    "completed", &[OK]),
        ("304 too",                                   &[304],                json!({}),    "completed", &[OK]),
        ("308 too",                                   &[308],                json!({}),    "completed", &[OK]),
        ("400 is final",                              &[400, 200],           json!({}),    "failed",    &[REFUSED]),
        ("402 is final",                              &[402, 200],           json!({}),    "failed",    &[REFUSED]),
        ("404 is final",                              &[404, 200],           json!({}),    "failed",    &[REFUSED]),
        ("407 is final",                              &[407, 200],           json!({}),    "failed",    &[REFUSED]),
        ("410 is final",                              &[410, 200],           json!({}),    "failed",    &[REFUSED]),
        ("422 is final",                              &[422, 200],           json!({}),    "failed",    &[REFUSED]),
        ("499 is final",                              &[499, 200],           json!({}),    "failed",    &[REFUSED]),
        ("401 of an endpoint without credentials",    &[401, 200],           json!({}),    "completed", &[LOCKED, OK]),
        ("403 of one",                                &[403, 200],           json!({}),    "completed", &[LOCKED, OK]),
        ("401 of one with credentials is confirmed",  &[401, 200],           bearer(),     "completed", &[LOCKED, OK]),
        ("403 too",                                   &[403, 403, 200],      bearer(),     "completed", &[LOCKED, LOCKED, OK]),
        ("408: the same may succeed later",           &[408, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("425: the same may succeed later",           &[425, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("429 waits",                                 &[429, 200],           json!({}),    "completed", &[SLOWER, OK]),
        ("500 is tried again",                        &[500, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("501 too",                                   &[501, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("503 too",                                   &[503, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("599 too",                                   &[599, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("999 too",                                   &[999, 200],           json!({}),    "completed", &[BROKEN, OK]),
        ("one after the other",                       &[500, 429, 408, 204], json!({}),    "completed", &[BROKEN, SLOWER, BROKEN, OK]),
        ("a refusal after failures is final",         &[500, 422, 200],      json!({}),    "failed",    &[BROKEN, REFUSED]),
        ("given up when the schedule is",             &[500],                json!({}),    "failed",    &[BROKEN, BROKEN, BROKEN, BROKEN]),
    ];
    // All at once: each has a connection of its own.
    let mut stories = Vec::new();
    for (n, (why, answers, settings, status, expected)) in cases.into_iter().enumerate() {
        let receiver = Receiver::script(answers).await;
        let name = format!("status.{n}");
        let rule = route(&weft, &name, &receiver.url("/"), settings, json!({ "retry": [0, 0, 0] })).await;
        let event = weft.send_event(&name, json!({ "n": n })).await;
        stories.push((why, answers, receiver, rule, event, status, expected));
    }
    for (why, answers, receiver, rule, event, status, expected) in stories {
        let shown = weft.finished_event(&event).await;
        assert_eq!(shown["status"], status, "{why}: {shown}");
        let attempts = weft.attempts(&event, &rule, expected.len()).await;
        assert_eq!(outcomes(&attempts), expected, "{why}");
        let told: Vec<u64> =
            attempts.iter().map(|attempt| attempt["http_status"].as_u64().expect("a status")).collect();
        let answered =
            answers.iter().chain(answers.last().into_iter().cycle()).map(|status| u64::from(*status));
        assert_eq!(told, answered.take(expected.len()).collect::<Vec<_>>(), "{why}");
        assert_eq!(receiver.so_far().len(), expected.len(), "{why}: one request for each attempt");
        let delivery = &shown["rule_events"][0];
        assert_eq!(delivery["attempt_count"], expected.len(), "{why}");
        assert_eq!(delivery["last_error"].is_string(), status == "failed", "{why}");
    }
    weft.stop().await;
}

/// I4: a receiver sees one event id and one delivery id, whatever happens in between.
#[tokio::test]
async fn ids_stay_the_same_across_attempts_and_a_restart() {
    let mut weft = Weft::start().await;
    let receiver = Receiver::start(|n, _| Reply::status(if n < 4 { 500 } else { 200 })).await;
    let rule =
        route(&weft, "a.b", &receiver.url("/"), json!({}), json!({ "retry": [0, 0, 3_600_000, 0] })).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let before = weft.attempts(&event, &rule, 3).await;
    weft = weft.restart().await;
    weft.ask(reqwest::Method::POST, &format!("/events/{event}/rules/{rule}/retry"), None)
        .await
        .answered(200, "again");
    let shown = weft.event_as(&event, "completed").await;
    let received = receiver.received(5).await;
    let (id, created) = (text(&shown["rule_events"][0]["id"]), received[0].json()["time_created"].clone());
    for (n, received) in received.iter().enumerate() {
        let body = received.json();
        assert_eq!((body["uuid"].as_str(), &body["time_created"]), (Some(event.as_str()), &created));
        assert_eq!(received.header("x-weft-delivery-id"), Some(id.as_str()));
        assert_eq!(received.header("x-weft-attempt"), Some((n + 1).to_string().as_str()));
    }
    let after = weft.attempts(&event, &rule, 5).await;
    assert_eq!(before[..], after[..3], "the first attempts are what they were");
    let ids: std::collections::HashSet<_> = after.iter().map(|attempt| text(&attempt["id"])).collect();
    assert_eq!(ids.len(), 5, "each attempt has an id of its own");
    weft.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_without_an_answer_is_tried_again() {
    let weft = Weft::start().await;
    let fine = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let closing = Hostile::start(vec![Play::Close(Vec::new()), Play::Answer(fine.clone())]).await;
    let (_never, gate) = watch::channel(false);
    let slow = move |n, _: &_| if n == 0 { Reply::status(200).behind(&gate) } else { Reply::status(200) };
    let slow = Receiver::start(slow).await;
    let nobody = Receiver::start(Reply::ok).await.address;
    #[rustfmt::skip]
    let cases = [
        // why                     url                          outcome           message
        ("it closes",              closing.url("/"),            "network_error",  "the endpoint closed the connection before answering"),
        ("it does not answer",     slow.url("/"),               "timeout",        "the endpoint did not answer within 300ms"),
        ("nobody listens",         format!("http://{nobody}/"), "network_error",  "the endpoint refused the connection"),
    ];
    for (why, url, outcome, message) in cases {
        let rule =
            route(&weft, why, &url, json!({}), json!({ "retry": [0, 3_600_000], "timeout_ms": 300 })).await;
        let event = weft.send_event(why, json!({ "n": 1 })).await;
        let attempts = weft.attempts(&event, &rule, 2).await;
        let first = &attempts[0];
        assert_eq!(
            (first["outcome_code"].as_str(), first["message"].as_str()),
            (Some(outcome), Some(message)),
            "{why}"
        );
        assert_eq!(first["http_status"], Value::Null, "{why}");
        assert!(first["next_retry_at"].is_string(), "{why}");
        weft.response_details(first).await.refused(404, "response of this attempt not found", why);
        assert!(!message.contains("127.0.0.1"));
    }
    weft.stop().await;
}

/// How long after the first attempt the second was to be made.
fn wait(attempt: &Value) -> Duration {
    let moment = |name: &str| attempt[name].as_str().expect("a time").parse::<Timestamp>().expect("RFC 3339");
    moment("next_retry_at").since(moment("completed_at"))
}

#[tokio::test]
async fn the_wait_that_is_asked_for_is_kept_in_every_spelling_and_nonsense_ignored() {
    let weft = Weft::start().await;
    let in_an_hour = actors::clock::Clock::system().now().after(Duration::from_secs(3_600)).to_string();
    let day = 86_400_000;
    const IGNORED: (u64, u64) = (0, 900);
    const ONE_SECOND: (u64, u64) = (1_000, 1_300);
    type Case<'c> = (&'c str, &'c [u16], &'static str, String, (u64, u64));
    #[rustfmt::skip]
    let cases: [Case<'_>; 25] = [
        // why                                     statuses     header                value                              at least, at most
        ("seconds",                                &[429, 503], "retry-after",        "120".into(),                      (120_000, 145_000)),
        ("with blanks",                            &[429],      "retry-after",        " 7 ".into(),                      (7_000, 8_500)),
        ("decimals",                               &[503],      "retry-after",        "2.5".into(),                      (2_500, 3_100)),
        ("an RFC 3339 time",                       &[429, 503], "retry-after",        in_an_hour.clone(),                (3_500_000, 4_400_000)),
        ("an HTTP date in the past",               &[429, 503], "retry-after",        "Sun, 06 Nov 1994 08:49:37 GMT".into(), ONE_SECOND),
        ("RFC 850",                                &[503],      "retry-after",        "Sunday, 06-Nov-94 08:49:37 GMT".into(), ONE_SECOND),
        ("asctime",                                &[503],      "retry-after",        "Sun Nov  6 08:49:37 1994".into(), ONE_SECOND),
        ("none is one second",                     &[429, 503], "retry-after",        "0".into(),                        ONE_SECOND),
        ("two days are one",                       &[429, 503], "retry-after",        "172800".into(),                   (day, day * 13 / 10)),
        ("banana",                                 &[429, 503], "retry-after",        "banana".into(),                   IGNORED),
        ("empty",                                  &[429, 503], "retry-after",        String::new(),                     IGNORED),
        ("negative",                               &[429, 503], "retry-after",        "-120".into(),                     IGNORED),
        ("signed",                                 &[503],      "retry-after",        "+120".into(),                     IGNORED),
        ("an exponent",                            &[503],      "retry-after",        "1e3".into(),                      IGNORED),
        ("infinite",                               &[503],      "retry-after",        "inf".into(),                      IGNORED),
        ("not a number",                           &[503],      "retry-after",        "NaN".into(),                      IGNORED),
        ("hexadecimal",                            &[503],      "retry-after",        "0x78".into(),                     IGNORED),
        ("a unit",                                 &[503],      "retry-after",        "120s".into(),                     IGNORED),
        ("two numbers",                            &[503],      "retry-after",        "120, 240".into(),                 IGNORED),
        ("over all numbers",                       &[429, 503], "retry-after",        "9".repeat(400),                   (day, day)),
        ("a date far away",                        &[429, 503], "retry-after",        "Sun, 15 Mar 2099 12:00:00 GMT".into(), (day, day)),
        ("a broken date",                          &[503],      "retry-after",        "Sun, 99 Mar 2026 12:00:00 GMT".into(), IGNORED),
        ("a rate limit's reset",                   &[429],      "x-ratelimit-reset",  "60".into(),                       (60_000, 73_000)),
        ("means nothing beside 503",               &[503],      "x-ratelimit-reset",  "60".into(),                       IGNORED),
        ("nor does Retry-After beside 500",        &[500],      "retry-after",        "120".into(),                      IGNORED),
    ];
    let mut stories = Vec::new();
    for (n, (why, statuses, header, value, bounds)) in cases.into_iter().enumerate() {
        for status in statuses {
            let (status, answered) = (*status, value.clone());
            let receiver =
                Receiver::start(move |_, _| Reply::status(status).header(header, answered.clone())).await;
            let name = format!("wait.{n}.{status}");
            let rule = route(&weft, &name, &receiver.url("/"), json!({}), json!({ "retry": [0] })).await;
            let event = weft.send_event(&name, json!({ "n": n })).await;
            stories.push((format!("{why}: {status} with {header}: {value}"), receiver, rule, event, bounds));
        }
    }
    for (why, _receiver, rule, event, (at_least, at_most)) in stories {
        let first = weft.attempts(&event, &rule, 1).await.remove(0);
        let wait = u64::try_from(wait(&first).as_millis()).expect("it is short");
        assert!((at_least..=at_most).contains(&wait), "{why}: {wait} ms, not {at_least} to {at_most}");
    }
    weft.stop().await;
}

/// A destination that asks for a pause is not counted as failing: it is asked again however often it does.
#[tokio::test]
async fn being_asked_to_wait_uses_up_no_attempt_and_holds_the_connection() {
    let weft = Weft::start().await;
    let receiver = Receiver::start(|n, _| match n {
        0 | 1 => Reply::status(429).header("retry-after", "1"),
        _ => Reply::status(200),
    });
    let receiver = receiver.await;
    route(&weft, "a.b", &receiver.url("/"), json!({}), json!({ "retry": [], "max_in_flight": 1 })).await;
    let events =
        [weft.send_event("a.b", json!({ "n": 1 })).await, weft.send_event("a.b", json!({ "n": 2 })).await];
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    let came = receiver.so_far();
    assert_eq!(came.len(), 4);
    for pair in came[..3].windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(900), "the whole connection waits a second");
    }
    weft.stop().await;
}

#[tokio::test]
async fn refused_credentials_stop_the_connection_and_park_what_waits_until_they_are_mended() {
    let weft = Weft::start().await;
    let receiver = Receiver::start(|_, received| match received.header("authorization") {
        Some("Bearer good") => Reply::status(200),
        _ => Reply::status(401).body("who are you?"),
    });
    let receiver = receiver.await;
    let bearer = |token: &str| json!({ "auth_scheme": "bearer", "bearer_token": token });
    // More tries than it takes: what is refused is parked, not given up.
    let policy = json!({ "retry": [0, 0, 0, 0, 0, 0], "max_in_flight": 1 });
    let connection = weft.webhook_with(&receiver.url("/"), bearer("bad"), policy).await;
    weft.rule("a.b", &connection).await;
    let path = format!("/connections/{connection}");
    let mended = |token: &str| {
        let mut settings = bearer(token);
        settings["url"] = receiver.url("/").into();
        settings["skip_test"] = true.into();
        json!({ "name": "Mended", "metadata": settings })
    };
    for (round, token) in ["worse", "good"].into_iter().enumerate() {
        let events = [
            weft.send_event("a.b", json!({ "n": 1 })).await,
            weft.send_event("a.b", json!({ "n": 2 })).await,
        ];
        let shown = crate::support::until("the connection is inactive", async || {
            let shown = weft.get(&path).await.answered(200, "shown");
            (shown["active"] == false).then_some(shown)
        });
        assert_eq!(shown.await["inactive_reason"], "authentication_invalid");
        let asked = receiver.so_far().len();
        assert_eq!(asked, 3 * (round + 1), "confirmed by three refusals, then left alone");
        let late = weft.send_event("a.b", json!({ "n": 3 })).await;
        let shown = weft.event_as(&late, "pending").await;
        assert_eq!(shown["total_rules"], 1, "accepted, routed, and parked");
        for event in &events {
            let status = weft.get(&format!("/events/{event}")).await.body["status"].clone();
            assert!(status == "pending" || status == "retrying", "{status}");
        }
        assert_eq!(receiver.so_far().len(), asked, "nothing is sent meanwhile");
        let shown = weft.put(&path, mended(token)).await.answered(200, "new credentials");
        assert_eq!(
            (&shown["active"], &shown["inactive_reason"]),
            (&json!(true), &Value::Null),
            "they get their chance"
        );
    }
    crate::support::until("all are delivered", async || {
        let list = weft.get("/events?status=completed").await.answered(200, "completed");
        (list["count"] == 6).then_some(())
    })
    .await;
    let failed = weft.get("/events?status=failed").await.answered(200, "failed");
    assert_eq!(failed["count"], 0, "nothing was given up");
    weft.stop().await;
}

/// A connection that a person made inactive by hand stays so, whatever else is changed.
#[tokio::test]
async fn what_a_person_stopped_is_started_by_a_person() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    weft.rule("a.b", &connection).await;
    let path = format!("/connections/{connection}");
    weft.patch(&path, json!({ "active": false })).await.answered(200, "off");
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let metadata = json!({ "url": receiver.url("/other"), "skip_test": true });
    let shown = weft.patch(&path, json!({ "metadata": metadata })).await.answered(200, "another URL");
    assert_eq!(shown["inactive_reason"], "manually_inactivated");
    weft.event_as(&event, "pending").await;
    assert!(receiver.so_far().is_empty());
    weft.patch(&path, json!({ "active": true })).await.answered(200, "on");
    weft.event_as(&event, "completed").await;
    assert_eq!(receiver.received(1).await[0].target, "/other");
    weft.stop().await;
}

/// I18: once a change is answered, no new attempt is made by what was before.
#[tokio::test]
async fn a_changed_url_and_secret_are_used_from_the_answer_on() {
    let weft = Weft::start().await;
    let (old, new) = (Receiver::script(&[500]).await, Receiver::start(Reply::ok).await);
    let policy = json!({ "retry": [0, 0, 0, 0, 0, 0, 0, 0], "max_in_flight": 1 });
    let token = |token: &str| json!({ "auth_scheme": "bearer", "bearer_token": token });
    let connection = weft.webhook_with(&old.url("/"), token("old"), policy).await;
    weft.rule("a.b", &connection).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(weft.send_event("a.b", json!({ "n": n })).await);
    }
    old.received(2).await;
    let mut metadata = token("new");
    metadata["url"] = new.url("/").into();
    metadata["skip_test"] = true.into();
    weft.patch(&format!("/connections/{connection}"), json!({ "metadata": metadata }))
        .await
        .answered(200, "changed");
    // One attempt may have been in flight at that moment; it was begun before the answer.
    let before = old.so_far().len();
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    assert!(old.so_far().len() <= before + 1, "{} after {before}", old.so_far().len());
    let came = new.so_far();
    assert_eq!(came.len(), 3);
    assert!(came.iter().all(|received| received.header("authorization") == Some("Bearer new")));
    weft.stop().await;
}

#[tokio::test]
async fn no_more_attempts_are_in_flight_than_the_connection_allows() {
    let weft = Weft::start().await;
    let (open, gate) = watch::channel(false);
    let slow = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let other = Receiver::start(Reply::ok).await;
    let policy = json!({ "max_in_flight": 2, "timeout_ms": 60_000 });
    route(&weft, "a.b", &slow.url("/"), json!({}), policy).await;
    route(&weft, "a.b", &other.url("/"), json!({}), json!({})).await;
    let mut events = Vec::new();
    for n in 0..8 {
        events.push(weft.send_event("a.b", json!({ "n": n })).await);
    }
    other.received(8).await;
    assert_eq!(slow.received(2).await.len(), 2, "two wait for an answer, six for their turn");
    open.send_replace(true);
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    assert_eq!(slow.so_far().len(), 8);
    weft.stop().await;
}

/// Endpoints close their side between requests whenever they like: that is no failure.
#[tokio::test]
async fn an_endpoint_that_closes_after_each_answer_costs_no_attempts() {
    let weft = Weft::start().await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let receiver = Hostile::start(vec![Play::Close(answer)]).await;
    let rule = route(&weft, "a.b", &receiver.url("/"), json!({}), json!({})).await;
    for n in 0..30 {
        let event = weft.send_event("a.b", json!({ "n": n })).await;
        weft.event_as(&event, "completed").await;
        let attempts = weft.attempts(&event, &rule, 1).await;
        assert_eq!(outcomes(&attempts), ["delivered"], "the {n}th event");
    }
    weft.stop().await;
}

/// What was begun is judged by the policy it was begun with, whatever is done to the connection meanwhile.
#[tokio::test]
async fn an_attempt_in_flight_keeps_its_policy_when_the_connection_changes() {
    let pause: fn(&str) -> (&'static str, String, Value) =
        |path| ("POST", format!("{path}/pause"), json!({}));
    let rename: fn(&str) -> (&'static str, String, Value) =
        |path| ("PATCH", path.to_owned(), json!({ "name": "Renamed" }));
    let stop: fn(&str) -> (&'static str, String, Value) =
        |path| ("PATCH", path.to_owned(), json!({ "active": false }));
    #[rustfmt::skip]
    let cases = [
        // why                             the server's waits  the connection's   meanwhile   then
        ("paused, though once is enough",  "1h*3",             json!([]),         pause,      "failed"),
        ("paused, to be tried again",      "",                 json!([HOUR_MS]),  pause,      "retrying"),
        ("renamed, though once is enough", "1h*3",             json!([]),         rename,     "failed"),
        ("renamed, to be tried again",     "",                 json!([HOUR_MS]),  rename,     "retrying"),
        ("stopped, to be tried again",     "",                 json!([HOUR_MS]),  stop,       "retrying"),
    ];
    for (why, schedule, waits, meanwhile, expected) in cases {
        let weft = Weft::with(|config| config.retry_schedule = schedule.parse().expect("a schedule")).await;
        let (open, gate) = watch::channel(false);
        let receiver = Receiver::start(move |_, _| Reply::status(500).behind(&gate)).await;
        let policy = json!({ "retry": waits, "timeout_ms": 60_000 });
        let connection = weft.webhook_with(&receiver.url("/"), json!({}), policy).await;
        let rule = weft.rule("a.b", &connection).await;
        let event = weft.send_event("a.b", json!({ "n": 1 })).await;
        receiver.received(1).await;
        let (method, path, body) = meanwhile(&format!("/connections/{connection}"));
        let method = method.parse().expect("a method");
        weft.ask(method, &path, Some(body)).await.answered(200, why);
        open.send_replace(true);
        weft.attempts(&event, &rule, 1).await;
        let shown = weft.get(&format!("/events/{event}")).await.answered(200, why);
        assert_eq!(shown["status"], expected, "{why}");
        weft.stop().await;
    }
}

/// I18: once a pause is answered, no new attempt is begun.
#[tokio::test]
async fn nothing_is_begun_once_a_pause_is_answered() {
    let weft = Weft::start().await;
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let policy = json!({ "max_in_flight": 1, "timeout_ms": 60_000 });
    let connection = weft.webhook_with(&receiver.url("/"), json!({}), policy).await;
    let rule = weft.rule("a.b", &connection).await;
    let mut events = Vec::new();
    for n in 0..5 {
        events.push(weft.send_event("a.b", json!({ "n": n })).await);
    }
    receiver.received(1).await;
    weft.ask(reqwest::Method::POST, &format!("/connections/{connection}/pause"), None)
        .await
        .answered(200, "paused");
    open.send_replace(true);
    weft.attempts(&events[0], &rule, 1).await;
    // Whoever would go on had the time to: another event went all its way meanwhile.
    let other = Receiver::start(Reply::ok).await;
    route(&weft, "other", &other.url("/"), json!({}), json!({})).await;
    let after = weft.send_event("other", json!({ "n": 1 })).await;
    weft.event_as(&after, "completed").await;
    assert_eq!(receiver.so_far().len(), 1, "the one that was in flight");
    weft.ask(reqwest::Method::POST, &format!("/connections/{connection}/resume"), None)
        .await
        .answered(200, "resumed");
    for event in &events {
        weft.event_as(event, "completed").await;
    }
    weft.stop().await;
}
