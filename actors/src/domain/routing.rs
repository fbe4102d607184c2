//! Routing: which rules an event meets, and why it passes the others by.

use super::{
    event::Event,
    field::FieldError,
    ids::{ConnectionId, RuleId},
    payload::Json,
    rule::{CompiledRule, EventPattern, Rule},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Deliveries one event may lead to; matches beyond are recorded as passed by.
pub const MATCHES_MAX: usize = 1_000;
/// Rules of its name that did not match, kept with an event.
pub const VERDICTS_MAX: usize = 200;

/// A rule of the event's name that did not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleVerdict {
    pub rule_id: RuleId,
    pub connection_id: ConnectionId,
    pub reason: String,
}

/// What became of an event at its workspace's rules.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// In order of creation.
    pub matched: Vec<Arc<CompiledRule>>,
    /// The first [`VERDICTS_MAX`] of them.
    pub unmatched: Vec<RuleVerdict>,
}

/// A workspace's rules, compiled once, found by event name.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    by_name: HashMap<String, Vec<Entry>>,
    patterns: Vec<Entry>,
    matches: usize,
}

#[derive(Clone, Debug)]
enum Entry {
    Compiled(Arc<CompiledRule>),
    /// A rule that no longer compiles, as after a stricter version: it matches nothing and says so.
    Broken(Box<Rule>, FieldError),
}

impl Entry {
    fn rule(&self) -> &Rule {
        match self {
            Self::Compiled(compiled) => &compiled.rule,
            Self::Broken(rule, _) => rule,
        }
    }
}

impl RuleSet {
    /// Compiles rules. One that does not compile takes none of the others with it.
    pub fn compile(rules: Vec<Rule>) -> Self {
        let mut set = Self { matches: rules.iter().map(Rule::matches).sum(), ..Self::default() };
        for rule in rules {
            match CompiledRule::compile(&rule) {
                Ok(compiled) => match &compiled.pattern {
                    EventPattern::Name(name) => {
                        set.by_name
                            .entry(name.clone())
                            .or_default()
                            .push(Entry::Compiled(Arc::new(compiled)));
                    }
                    EventPattern::Pattern(_) => set.patterns.push(Entry::Compiled(Arc::new(compiled))),
                },
                Err(err) => set
                    .by_name
                    .entry(rule.event.clone())
                    .or_default()
                    .push(Entry::Broken(Box::new(rule), err)),
            }
        }
        set
    }

    /// One of the rules alone, if it is there.
    pub fn only(&self, id: RuleId) -> Self {
        let is_it = |entry: &&Entry| entry.rule().id == id;
        let by_name = self.by_name.iter().filter_map(|(name, entries)| {
            entries.iter().find(is_it).map(|entry| (name.clone(), vec![entry.clone()]))
        });
        let by_name: HashMap<_, _> = by_name.collect();
        let patterns: Vec<_> = self.patterns.iter().filter(is_it).cloned().collect();
        let kept = by_name.values().flatten().chain(&patterns);
        Self { matches: kept.map(|entry| entry.rule().matches()).sum(), by_name, patterns }
    }

    /// Whether an event may have to be searched with regular expressions, which takes its time.
    pub const fn has_matches(&self) -> bool {
        self.matches > 0
    }

    /// Whether the payload may be asked for.
    pub fn has_conditions(&self) -> bool {
        let mut entries = self.by_name.values().flatten().chain(&self.patterns);
        entries.any(|entry| entry.rule().conditions.is_some())
    }

    /// Judges an event by every rule of its name. The payload is parsed only if a condition asks.
    pub fn route(&self, event: &Event, payload: &[u8]) -> Routing {
        let mut payload = Payload { bytes: payload, read: None };
        self.route_by(event, |rule| {
            judge(rule, event)?;
            rule.condition.as_ref().map_or(Ok(()), |condition| condition.holds(payload.read()?))
        })
    }

    /// What becomes of an event whose payload is lost: it matches whatever it may have matched, for where it
    /// may have had to go it has to be missed.
    pub fn route_unread(&self, event: &Event) -> Routing {
        self.route_by(event, |rule| judge(rule, event))
    }

    fn route_by(&self, event: &Event, mut judge: impl FnMut(&CompiledRule) -> Result<(), String>) -> Routing {
        let mut routing = Routing::default();
        for entry in self.of_name(&event.name) {
            let verdict = match entry {
                Entry::Compiled(rule) => judge(rule),
                Entry::Broken(_, err) => Err(format!("the rule cannot be understood: {err}")),
            };
            match (verdict, entry) {
                (Ok(()), Entry::Compiled(rule)) if routing.matched.len() < MATCHES_MAX => {
                    routing.matched.push(rule.clone());
                }
                (Ok(()), _) => {
                    let reason = format!("an event is delivered at most {MATCHES_MAX} times");
                    routing.pass_by(entry.rule(), reason);
                }
                (Err(reason), _) => routing.pass_by(entry.rule(), reason),
            }
        }
        routing
    }

    /// What becomes of an event whose judging failed by our own fault: no rule matches, and each says so.
    pub fn faulted(&self, event: &Event) -> Routing {
        let mut routing = Routing::default();
        for entry in self.of_name(&event.name) {
            routing.pass_by(entry.rule(), "an error in Weft's own code; see the server's log".to_owned());
        }
        routing
    }

    /// The rules of this name, in order of creation.
    fn of_name(&self, name: &str) -> Vec<&Entry> {
        let is_for = |entry: &&Entry| match entry {
            Entry::Compiled(rule) => rule.pattern.matches(name),
            Entry::Broken(..) => false,
        };
        let mut entries: Vec<&Entry> = self.by_name.get(name).into_iter().flatten().collect();
        let by_name = entries.len();
        entries.extend(self.patterns.iter().filter(is_for));
        if entries.len() > by_name {
            entries.sort_by_key(|entry| entry.rule().id);
        }
        entries
    }
}

impl Routing {
    fn pass_by(&mut self, rule: &Rule, reason: String) {
        if self.unmatched.len() < VERDICTS_MAX {
            self.unmatched.push(RuleVerdict { rule_id: rule.id, connection_id: rule.connection_id, reason });
        }
    }
}

struct Payload<'a> {
    bytes: &'a [u8],
    read: Option<Result<Json<'a>, String>>,
}

impl<'a> Payload<'a> {
    /// What conditions are asked about. A payload that cannot be read holds for none of them, also
    /// for none that says `not`.
    fn read(&mut self) -> Result<&Json<'a>, String> {
        let read = || Json::parse(self.bytes).map_err(|err| format!("the payload is {err}"));
        self.read.get_or_insert_with(read).as_ref().map_err(Clone::clone)
    }
}

/// Whether a rule of the event's name matches, leaving aside its conditions; if not, why.
fn judge(CompiledRule { rule, .. }: &CompiledRule, event: &Event) -> Result<(), String> {
    if !rule.active {
        return Err("the rule is not active".to_owned());
    }
    if let Some(wanted) = rule.resource.as_ref().filter(|wanted| **wanted != event.resource) {
        return Err(format!("resource is {:?}, the rule wants {wanted:?}", event.resource));
    }
    if rule.resource_id.is_some() && rule.resource_id != event.resource_id {
        let shown =
            |id: &Option<String>| id.as_ref().map_or_else(|| "absent".to_owned(), |id| format!("{id:?}"));
        return Err(format!(
            "resource_id is {}, the rule wants {}",
            shown(&event.resource_id),
            shown(&rule.resource_id)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{EventId, IdSource, OrganizationId, WorkspaceId},
        timestamp::Timestamp,
    };
    use proptest::prelude::*;
    use serde_json::{Map, json};
    use uuid::Uuid;

    fn event(name: &str, resource: &str, resource_id: Option<&str>) -> Event {
        Event {
            id: EventId::from_uuid(Uuid::nil()),
            organization_id: OrganizationId::from_uuid(Uuid::nil()),
            workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
            name: name.to_owned(),
            resource: resource.to_owned(),
            resource_id: resource_id.map(str::to_owned),
            created_by: "test".to_owned(),
            accepted_at: Timestamp(0),
        }
    }

    fn rule(ids: &IdSource, event: &str) -> Rule {
        Rule {
            id: RuleId::from_uuid(ids.next(Timestamp(1))),
            organization_id: OrganizationId::from_uuid(Uuid::nil()),
            workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
            connection_id: ConnectionId::from_uuid(Uuid::nil()),
            kind: "webhook".to_owned(),
            event: event.to_owned(),
            resource: None,
            resource_id: None,
            metadata: Map::new(),
            conditions: None,
            active: true,
            hidden: false,
            created_by: "test".to_owned(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            version: 1,
        }
    }

    #[test]
    fn an_event_says_of_each_rule_of_its_name_whether_it_matched_and_why_not() {
        let ids = IdSource::default();
        let plan = json!({"path": "plan", "op": "eq", "value": "pro"});
        #[rustfmt::skip]
        let rules = [
            (rule(&ids, "a.b"),                                                         None),
            (Rule { active: false, ..rule(&ids, "a.b") },                               Some("not active")),
            (Rule { resource: Some("team".into()), ..rule(&ids, "a.b") },               Some(r#"resource is "user", the rule wants "team""#)),
            (Rule { resource: Some("user".into()), ..rule(&ids, "a.*") },               None),
            (Rule { resource_id: Some("2".into()), ..rule(&ids, "*") },                 Some(r#"resource_id is "1", the rule wants "2""#)),
            (Rule { conditions: Some(plan), ..rule(&ids, "a.b") },                      Some(r#"found "free""#)),
            (Rule { conditions: Some(json!({"like": 1})), ..rule(&ids, "a.b") },        Some("cannot be understood")),
        ];
        let others = [rule(&ids, "a"), rule(&ids, "b.*")];
        let set = RuleSet::compile(rules.iter().map(|(rule, _)| rule.clone()).chain(others).collect());
        let routing = set.route(&event("a.b", "user", Some("1")), br#"{"plan":"free"}"#);
        let matched: Vec<_> = routing.matched.iter().map(|rule| rule.rule.id).collect();
        let expected: Vec<_> =
            rules.iter().filter(|(_, why)| why.is_none()).map(|(rule, _)| rule.id).collect();
        assert_eq!(matched, expected, "in order of creation");
        let reasons: HashMap<_, _> = routing.unmatched.into_iter().map(|v| (v.rule_id, v.reason)).collect();
        for (rule, why) in rules.iter().filter_map(|(rule, why)| Some((rule, (*why)?))) {
            assert!(reasons[&rule.id].contains(why), "{:?} should say {why}", reasons[&rule.id]);
        }
        assert_eq!(reasons.len(), 5, "rules of other names say nothing");
        for (rule, why) in &rules {
            let alone = set.only(rule.id).route(&event("a.b", "user", Some("1")), br#"{"plan":"free"}"#);
            let matched = alone.matched.iter().map(|it| it.rule.id);
            let heard: Vec<_> = matched.chain(alone.unmatched.iter().map(|it| it.rule_id)).collect();
            assert_eq!(heard, [rule.id], "{why:?}, alone");
        }
    }

    /// I8: a number of any size keeps its value for rules, too, and has no say where none asks for it.
    #[test]
    fn a_number_beyond_floats_neither_hides_the_payload_nor_loses_its_value() {
        let ids = IdSource::default();
        let is_free = |op: &str| json!({"path": "plan", "op": op, "value": "free"});
        let n = |op: &str, value: f64| json!({"path": "n", "op": op, "value": value});
        #[rustfmt::skip]
        let cases = [
            // payload                            condition                       matches
            (r#"{"plan":"free","n":1e400}"#,      is_free("eq"),                  true),
            (r#"{"plan":"free","n":1e400}"#,      is_free("ne"),                  false),
            (r#"{"plan":"free","n":1e400}"#,      json!({"not": is_free("eq")}),  false),
            (r#"{"plan":"free","n":1e400}"#,      n("gt", f64::MAX),              true),
            (r#"{"plan":"free","n":-1e400}"#,     n("lt", f64::MIN),              true),
            (r#"{"plan":"free","n":1e400}"#,      n("eq", 0.0),                   false),
            ("not JSON",                          is_free("ne"),                  false),
            ("not JSON",                          json!({"not": is_free("eq")}),  false),
        ];
        for (payload, condition, expected) in cases {
            let rule = Rule { conditions: Some(condition.clone()), ..rule(&ids, "a") };
            let routing = RuleSet::compile(vec![rule]).route(&event("a", "global", None), payload.as_bytes());
            assert_eq!(routing.matched.len() == 1, expected, "{payload} {condition}");
            assert_eq!(routing.unmatched.len() == 1, !expected, "{payload} {condition}");
        }
    }

    proptest! {
        /// Each rule of the event's name is heard once: it matches, or says why not; others say nothing.
        #[test]
        fn every_rule_of_the_name_is_heard_once(
            rules in proptest::collection::vec(
                (
                    prop_oneof![Just("a"), Just("a.b"), Just("a.*"), Just("*"), Just("*.b"), Just("c")],
                    proptest::option::of(prop_oneof![Just("user"), Just("team")]),
                    any::<bool>(),
                    proptest::option::of(prop_oneof![Just("pro"), Just("free")]),
                ),
                0..20,
            ),
            name in prop_oneof![Just("a"), Just("a.b"), Just("a.b.c"), Just("c.b")],
        ) {
            let ids = IdSource::default();
            let plan = |plan: &str| json!({"path": "plan", "op": "eq", "value": plan});
            let made: Vec<Rule> = rules
                .iter()
                .map(|(event, resource, active, wanted)| Rule {
                    resource: resource.map(str::to_owned),
                    active: *active,
                    conditions: wanted.map(plan),
                    ..rule(&ids, event)
                })
                .collect();
            let routing = RuleSet::compile(made.clone()).route(&event(name, "user", None), br#"{"plan":"pro"}"#);
            let is_of_name = |rule: &Rule| EventPattern::parse(&rule.event).expect("a pattern").matches(name);
            let (mut matched, mut passed_by) = (Vec::new(), Vec::new());
            for (rule, (_, resource, active, wanted)) in made.iter().zip(&rules).filter(|(rule, _)| is_of_name(rule)) {
                let matches = *active && resource.is_none_or(|it| it == "user") && wanted.is_none_or(|it| it == "pro");
                if matches { matched.push(rule.id) } else { passed_by.push(rule.id) }
            }
            prop_assert_eq!(routing.matched.iter().map(|rule| rule.rule.id).collect::<Vec<_>>(), matched);
            prop_assert_eq!(routing.unmatched.iter().map(|verdict| verdict.rule_id).collect::<Vec<_>>(), passed_by);
            prop_assert!(routing.unmatched.iter().all(|verdict| !verdict.reason.is_empty()));
        }
    }

    #[test]
    fn a_lost_payload_is_missed_wherever_it_may_have_had_to_go() {
        let ids = IdSource::default();
        let plan = json!({"path": "plan", "op": "eq", "value": "pro"});
        #[rustfmt::skip]
        let rules = [
            (rule(&ids, "a"),                                              true),
            (Rule { conditions: Some(plan), ..rule(&ids, "a") },           true),
            (Rule { active: false, ..rule(&ids, "a") },                    false),
            (Rule { resource: Some("team".into()), ..rule(&ids, "a") },    false),
            (rule(&ids, "b"),                                              false),
        ];
        let set = RuleSet::compile(rules.iter().map(|(rule, _)| rule.clone()).collect());
        let routing = set.route_unread(&event("a", "user", None));
        let matched: Vec<_> = routing.matched.iter().map(|rule| rule.rule.id).collect();
        let expected: Vec<_> = rules.iter().filter(|(_, may)| *may).map(|(rule, _)| rule.id).collect();
        assert_eq!(matched, expected);
        assert_eq!(routing.unmatched.len(), 2, "the others of its name say why");
    }

    #[test]
    fn the_payload_is_parsed_only_when_asked() {
        let ids = IdSource::default();
        let set = RuleSet::compile(vec![rule(&ids, "a")]);
        assert_eq!(set.route(&event("a", "global", None), b"not json").matched.len(), 1);
    }
}
