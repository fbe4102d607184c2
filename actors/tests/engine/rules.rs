//! Rules: bound when an event is accepted, judged once, and on record when they pass an event by.

use crate::support::*;
use actors::engine::RuleFilter;
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// Which rules an event was delivered by.
fn matched(details: &EventDetails) -> HashSet<RuleId> {
    details.deliveries.iter().map(|delivery| delivery.rule_id).collect()
}

/// I7: an event meets the rules as they stood when it was accepted, however late it is routed, and
/// whatever was changed, made or deleted since: in the same life, and in the next.
#[test]
fn events_meet_the_rules_of_the_moment_they_were_accepted() {
    for dies_in_between in [false, true] {
        let world = World::new();
        let (tenant, expected) = life(async {
            let tenant = Tenant::new(&world.start().await).await;
            let connection = tenant.connect("all").await;
            world.store.hold("unrouted");
            let mut expected: HashMap<EventId, HashSet<RuleId>> = HashMap::new();
            let mut accepted = async |rules: &[RuleId]| {
                // More than one page of them.
                let events = tenant.emit_many("contact.created", 70).await;
                expected.extend(events.into_iter().map(|event| (event, rules.iter().copied().collect())));
            };
            accepted(&[]).await;
            let first = tenant.rule(connection, "contact.created").await;
            accepted(&[first]).await;
            let second = tenant.rule(connection, "contact.*").await;
            accepted(&[first, second]).await;
            let change = async |rule, patch| {
                tenant.engine.update_rule(tenant.scope(), rule, patch).await.expect("changed");
            };
            let free = json!({"path": "plan", "op": "eq", "value": "free"});
            change(first, RulePatch { conditions: Some(Some(free)), ..Default::default() }).await;
            accepted(&[second]).await;
            change(first, RulePatch { conditions: Some(None), ..Default::default() }).await;
            change(second, RulePatch { active: Some(false), ..Default::default() }).await;
            accepted(&[first]).await;
            change(
                second,
                RulePatch { active: Some(true), event: Some("other".into()), ..Default::default() },
            )
            .await;
            accepted(&[first]).await;
            tenant.engine.delete_rule(tenant.scope(), first).await.expect("deleted");
            accepted(&[]).await;
            if !dies_in_between {
                world.store.let_go("unrouted");
                tokio::time::sleep(secs(60)).await;
            }
            (tenant, expected)
        });
        world.store.let_go("unrouted");
        life(async {
            let tenant = tenant.on(&world.start().await);
            for (event, rules) in &expected {
                tenant.all_completed(&[*event], secs(60)).await;
                assert_eq!(
                    matched(&tenant.event(*event).await),
                    *rules,
                    "died in between: {dies_in_between}"
                );
            }
            let left = tenant.engine.rules(tenant.scope(), RuleFilter::default(), None, 10).await;
            assert_eq!(left.expect("readable").records.len(), 1, "what there is today");
        });
        let deliveries: usize = expected.values().map(HashSet::len).sum();
        assert_eq!(world.fake.calls().len(), deliveries, "each once");
    }
}

/// I7: what is done at a connection is bound as well: a delivery carries the action its rule had.
#[tokio::test(start_paused = true)]
async fn a_delivery_carries_the_action_of_the_moment() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.connect("all").await;
    let action = |list: &str| object(json!({"action": "send_webhook", "list": list}));
    let rule = tenant.rule_with(connection, "contact.created", |rule| rule.metadata = action("first")).await;
    world.store.hold("unrouted");
    let before = tenant.emit("contact.created").await;
    let patch = RulePatch { metadata: Some(action("second")), ..Default::default() };
    tenant.engine.update_rule(tenant.scope(), rule, patch).await.expect("changed");
    let after = tenant.emit("contact.created").await;
    world.store.let_go("unrouted");
    for (event, list) in [(before, "first"), (after, "second")] {
        let delivery = tenant.finished(event).await;
        assert_eq!(delivery.action, serde_json::Value::from(action(list)).to_string());
    }
}

/// I2: each rule of an event's name either delivers it or says why not; the event API keeps both.
#[tokio::test(start_paused = true)]
async fn a_rule_that_passes_an_event_by_says_why() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.connect("all").await;
    let pro = json!({"all": [{"path": "plan", "op": "eq", "value": "pro"}, {"path": "seats", "op": "gt", "value": 2}]});
    #[rustfmt::skip]
    let cases = [
        // why                       event              resource      id         conditions   active  passes by because
        ("its very name",            "invoice.paid",    None,         None,      None,        true,   None),
        ("a pattern",                "invoice.*",       None,         None,      None,        true,   None),
        ("every name",               "*",               None,         None,      None,        true,   None),
        ("its resource",             "invoice.paid",    Some("team"), None,      None,        true,   None),
        ("its resource and id",      "*.paid",          Some("team"), Some("7"), None,        true,   None),
        ("what it says",             "*.*",             None,         None,      Some(pro.clone()), true, None),
        ("another resource",         "invoice.paid",    Some("user"), None,      None,        true,   Some(r#"resource is "team", the rule wants "user""#)),
        ("another id",               "invoice.paid",    None,         Some("8"), None,        true,   Some(r#"resource_id is "7", the rule wants "8""#)),
        ("it is switched off",       "invoice.paid",    None,         Some("7"), None,        false,  Some("not active")),
        ("it says the contrary",     "invoice.paid",    None,         None,      Some(json!({"not": pro})), true, Some("conditions.not: what it excludes holds")),
    ];
    let mut rules = Vec::new();
    for (_, event, resource, resource_id, conditions, active, _) in &cases {
        let rule = tenant.rule_with(connection, event, |rule| {
            rule.resource = resource.map(str::to_owned);
            rule.resource_id = resource_id.map(str::to_owned);
            (rule.conditions, rule.active) = (conditions.clone(), *active);
        });
        rules.push(rule.await);
    }
    tenant.rule(connection, "invoice.sent").await;
    tenant.rule(connection, "paid.*").await;
    let mut request = tenant.request("invoice.paid");
    (request.resource, request.resource_id) = (Some("team".to_owned()), Some("7".to_owned()));
    request.payload = br#"{"plan":"pro","seats":3}"#[..].into();
    let event = tenant.emit_all(vec![request]).await[0];
    tenant.all_completed(&[event], secs(5)).await;
    let details = tenant.event(event).await;
    let reasons: HashMap<_, _> =
        details.unmatched.iter().map(|verdict| (verdict.rule_id, verdict.reason.as_str())).collect();
    for ((why, .., passes_by), rule) in cases.iter().zip(&rules) {
        assert_eq!(matched(&details).contains(rule), passes_by.is_none(), "{why}");
        match passes_by {
            None => assert!(!reasons.contains_key(rule), "{why}"),
            Some(reason) => assert!(reasons[rule].contains(reason), "{why}: {}", reasons[rule]),
        }
    }
    assert_eq!(matched(&details).len() + reasons.len(), cases.len(), "rules of other names say nothing");
}

/// I2: an event that no rule is for is completed, and forgotten by nobody.
#[tokio::test(start_paused = true)]
async fn an_event_for_nobody_is_completed() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("invoice.paid").await;
    let event = tenant.emit("contact.created").await;
    tenant.all_completed(&[event], secs(5)).await;
    let details = tenant.event(event).await;
    assert!(details.deliveries.is_empty() && details.unmatched.is_empty());
    assert_eq!(world.fake.calls().len(), 0);
}

/// I2, I9: rules judge the events of their own workspace only.
#[tokio::test(start_paused = true)]
async fn a_workspaces_rules_judge_its_own_events() {
    let world = World::new();
    let engine = world.start().await;
    let (one, two) = (Tenant::new(&engine).await, Tenant::new(&engine).await);
    let connections = [one.route("*").await, two.route("*").await];
    let (ones, twos) = (one.emit_many("a", 10).await, two.emit_many("a", 15).await);
    one.all_completed(&ones, secs(5)).await;
    two.all_completed(&twos, secs(5)).await;
    for (connection, events) in connections.into_iter().zip([ones, twos]) {
        let seen: Vec<EventId> = world.fake.calls_to(connection).iter().map(|call| call.event).collect();
        assert_eq!(seen.iter().collect::<HashSet<_>>(), events.iter().collect::<HashSet<_>>());
        assert_eq!(seen.len(), events.len());
    }
}
