//! One delivery's life: tried, tried again when that may help, and ended in a way anybody can see.

use crate::support::{Answer::*, *};

/// I2, I4: an event reaches its connection once, under one id, its payload byte for byte.
#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_once_with_its_payload() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    let mut request = tenant.request("contact.created");
    request.payload = (&br#"{ "n": 1.0000000000000000001,  "s": "e\u0301" }"#[..]).into();
    let event = tenant.emit_all(vec![request.clone()]).await[0];
    let delivery = tenant.finished(event).await;
    assert_eq!((delivery.status, delivery.attempt_count), (Status::Completed, 1));
    assert_eq!(tenant.event(event).await.summary.status, Status::Completed);
    settle().await;
    let calls = world.fake.calls_to(connection);
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].event, calls[0].delivery), (event, delivery.id));
    assert_eq!(calls[0].payload, request.payload);
    assert_eq!(span(delivery.created_at, delivery.completed_at.expect("an end")), ms(0), "no time was lost");
}

/// I2: each rule that matches is a delivery of its own, and ends by itself.
#[tokio::test(start_paused = true)]
async fn an_event_goes_to_every_connection_that_asks_for_it() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    #[rustfmt::skip]
    let cases = [
        // connection  its answers                ends               after
        ("well",       vec![Code(200)],         Status::Completed, 1),
        ("unwell",     vec![Code(503), Code(200)], Status::Completed, 2),
        ("picky",      vec![Code(422)],         Status::Failed,    1),
    ];
    let mut rules = Vec::new();
    for (name, answers, ..) in &cases {
        let connection = tenant.connect(name).await;
        world.fake.answers(connection, answers.clone());
        rules.push(tenant.rule(connection, "contact.created").await);
    }
    let event = tenant.emit("contact.created").await;
    let details = until(hours(1), "all have ended", async || {
        Some(tenant.event(event).await).filter(|details| details.summary.status.is_final())
    })
    .await;
    assert_eq!(details.summary.status, Status::Failed, "one of them failed for good");
    for ((name, _, status, attempts), rule) in cases.iter().zip(rules) {
        let delivery = details.deliveries.iter().find(|delivery| delivery.rule_id == rule);
        let delivery = delivery.expect("a delivery for each rule");
        assert_eq!((delivery.status, delivery.attempt_count), (*status, *attempts), "{name}");
    }
}

/// I2: what each answer leads to, for the delivery and for its connection.
#[tokio::test(start_paused = true)]
async fn each_outcome_leads_where_the_table_says() {
    #[rustfmt::skip]
    let cases = [
        // why                                     the first answer                        delivery           tries  outcome
        ("success completes",                      Code(200),                            Status::Completed, 1,     Outcome::Delivered),
        ("a redirect is an answer",                Code(302),                            Status::Completed, 1,     Outcome::Delivered),
        ("a refusal is final",                     Code(422),                            Status::Failed,    1,     Outcome::RejectedClientError),
        ("gone is a refusal",                      Code(410),                            Status::Failed,    1,     Outcome::RejectedClientError),
        ("an early request may come again",        Code(425),                            Status::Completed, 2,     Outcome::RejectedServerError),
        ("a server's error may pass",              Code(500),                            Status::Completed, 2,     Outcome::RejectedServerError),
        ("one asked to slow down",                 Code(429),                            Status::Completed, 2,     Outcome::RateLimited),
        ("credentials are tried again",            Code(401),                            Status::Completed, 2,     Outcome::AuthFailed),
        ("silence may pass",                       Hang,                                   Status::Completed, 2,     Outcome::Timeout),
        ("so may silence in our own code",         Forever,                                Status::Completed, 2,     Outcome::Timeout),
        ("a broken line may be mended",            Told(Outcome::NetworkError),         Status::Completed, 2,     Outcome::NetworkError),
        ("our own panic is no refusal",            Panic,                                  Status::Completed, 2,     Outcome::InternalError),
        ("what cannot be mapped never can",        Told(Outcome::MappingError),         Status::Failed,    1,     Outcome::MappingError),
    ];
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    for (number, (why, first, status, attempts, outcome)) in cases.into_iter().enumerate() {
        let connection = tenant.route(&format!("case.{number}")).await;
        world.fake.answers(connection, [first, Code(200)]);
        let event = tenant.emit(&format!("case.{number}")).await;
        let delivery = tenant.finished(event).await;
        assert_eq!((delivery.status, delivery.attempt_count), (status, attempts), "{why}");
        assert_eq!(delivery.attempts[0].outcome, outcome, "{why}");
        assert_eq!(delivery.last_error.is_some(), status == Status::Failed, "{why}");
        let view =
            tenant.engine.connection(tenant.scope(), connection).await.expect("readable").expect("there");
        assert!(view.connection.takes_deliveries(), "{why}: one answer says little about a connection");
    }
}

/// I2: a dead destination is tried eight times over hours, then the delivery is failed with its payload
/// kept, and a person can have it tried again, with a schedule of its own.
#[tokio::test(start_paused = true)]
async fn the_schedule_runs_out_and_a_person_may_start_it_over() {
    let mut world = World::new();
    world.options.delivery.retry = RetryPolicy::default();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("invoice.paid").await;
    world.fake.answers(connection, [503]);
    let event = tenant.emit("invoice.paid").await;
    let failed = tenant.finished(event).await;
    assert_eq!((failed.status, failed.attempt_count), (Status::Failed, 8));
    assert_eq!(failed.last_error.as_deref(), Some("the endpoint answered 503"));
    let waits: Vec<_> = world.fake.calls().windows(2).map(|pair| span(pair[0].at, pair[1].at)).collect();
    for (number, (wait, scheduled)) in waits.iter().zip(RetryPolicy::default().waits).enumerate() {
        // Besides chance a try may be late by a probe's wait, while the breaker is open.
        let (least, most) = (scheduled.mul_f64(0.8), scheduled.mul_f64(1.2) + secs(72));
        assert!(
            (least..=most).contains(wait),
            "wait {number} is {wait:?}, not within {least:?} and {most:?}"
        );
    }
    let off_schedule =
        waits.iter().zip(RetryPolicy::default().waits).filter(|(wait, exact)| **wait != *exact);
    assert!(off_schedule.count() > 0, "chance spreads the tries");
    tokio::time::sleep(days(2)).await;
    assert_eq!(world.fake.calls().len(), 8, "final is final");
    assert!(tenant.engine.payload(tenant.scope(), event).await.expect("readable").is_some(), "payload kept");

    world.fake.answers(connection, [503, 200]);
    let started_over = tenant.engine.retry(tenant.scope(), event, failed.rule_id).await.expect("it may");
    assert_eq!((started_over.status, started_over.tries_used), (Status::Retrying, 0));
    let delivery = tenant.finished(event).await;
    assert_eq!((delivery.status, delivery.attempt_count), (Status::Completed, 10));
    assert_eq!(delivery.id, failed.id, "the same delivery, the same id");
    assert_eq!(tenant.event(event).await.summary.status, Status::Completed);
}

/// I2: waits that a destination asks for are kept, never shortened, and no try is used up by them.
#[tokio::test(start_paused = true)]
async fn a_destination_may_say_how_long_to_wait() {
    #[rustfmt::skip]
    let cases = [
        // why                                   the first answer                  the wait before the second
        ("a longer wait is kept",                NotBefore(429, secs(300)),        secs(300)),
        ("also that of a server's error",        NotBefore(503, secs(300)),        secs(300)),
        ("a shorter one does not hurry us",      NotBefore(503, secs(1)),          secs(10)),
        ("nobody makes us wait for a week",      NotBefore(429, days(7)),          days(1)),
        ("nor forget how to wait",               NotBefore(503, ms(0)),            secs(10)),
    ];
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    for (number, (why, first, wait)) in cases.into_iter().enumerate() {
        let connection = tenant.route(&format!("case.{number}")).await;
        world.fake.answers(connection, [first, Code(200)]);
        let event = tenant.emit(&format!("case.{number}")).await;
        assert_eq!(tenant.finished(event).await.status, Status::Completed, "{why}");
        let calls = world.fake.calls_to(connection);
        assert_eq!(span(calls[0].at, calls[1].at), wait, "{why}");
    }
}

/// I2: being asked to slow down twenty times is no failure; failing eight times is.
#[tokio::test(start_paused = true)]
async fn waits_that_were_asked_for_use_up_no_try() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    let asked = [NotBefore(429, secs(60)); 20].into_iter();
    world.fake.answers(connection, asked.chain([Code(500); 7]).chain([Code(200)]));
    let event = tenant.emit("contact.created").await;
    let delivery = tenant.finished(event).await;
    assert_eq!((delivery.status, delivery.attempt_count), (Status::Completed, 28));
}

/// I2: a connection's own schedule replaces the server's.
#[tokio::test(start_paused = true)]
async fn a_connection_may_have_a_schedule_of_its_own() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { retry: Some(vec![1_000, 3_000]), timeout_ms: Some(500), ..Default::default() };
    let connection = tenant.connect_with("hasty", policy).await;
    tenant.rule(connection, "contact.created").await;
    world.fake.answers(connection, [Hang]);
    let event = tenant.emit("contact.created").await;
    let delivery = tenant.finished(event).await;
    assert_eq!((delivery.status, delivery.attempt_count), (Status::Failed, 3));
    let calls: Vec<_> = world.fake.calls().windows(2).map(|pair| span(pair[0].at, pair[1].at)).collect();
    assert_eq!(calls, [ms(1_500), ms(3_500)], "the timeout and then the wait");
}

/// I2: a delivery that is called off is not tried again; one that is in flight ends naturally.
#[tokio::test(start_paused = true)]
async fn a_person_may_call_a_delivery_off() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [Code(503), Slow(secs(5), 503)]);
    let waiting = tenant.emit("contact.created").await;
    tenant.tried(waiting, 1).await;
    let in_flight = tenant.emit("contact.created").await;
    settle().await;
    assert_eq!(tenant.delivery(in_flight).await.expect("routed").status, Status::Processing);
    for event in [waiting, in_flight] {
        tenant.engine.cancel(tenant.scope(), event, None).await.expect("it may");
        assert!(tenant.engine.cancel(tenant.scope(), event, None).await.is_err(), "once");
    }
    tokio::time::sleep(days(1)).await;
    for event in [waiting, in_flight] {
        let delivery = tenant.delivery(event).await.expect("routed");
        assert_eq!((delivery.status, delivery.attempt_count), (Status::Canceled, 1));
    }
    assert_eq!(world.fake.calls().len(), 2);
}
