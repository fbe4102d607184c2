//! Salesforce.

use crate::{
    fakes::{
        Fake, Fault,
        salesforce::{TOKEN, Tables, routes},
    },
    suite::{self, Case, Consented, IsDone, Subject, payload},
};
use actors::{
    destinations,
    domain::{catalog::CatalogFieldKind, connection::InactiveReason, delivery::Outcome},
};
use serde_json::{Value, json};
use std::time::Duration;

const ADA: &str = "ada@example.com";
const FIELDS: [(&str, &str); 7] = [
    ("Email", "email"),
    ("FirstName", "first_name"),
    ("LastName", "last_name"),
    ("LeadSource", "source"),
    ("Tier__c", "tier"),
    ("Company", "company"),
    ("MailingCity", "city"),
];

async fn start() -> (Subject, Fake<Tables>) {
    let fake = Fake::start(routes).await;
    let settings = json!({ "access_token": TOKEN, "instance_url": fake.url(), "org_id": "00D1" });
    (Subject::new("salesforce", settings).mapping(&FIELDS), fake)
}

fn error(status: u16, code: &str, message: &str) -> Fault {
    Fault::status(status, &json!([{ "message": message, "errorCode": code, "fields": [] }]).to_string())
}

fn event() -> Value {
    let mut event = payload();
    event["company"] = "Engines".into();
    event["city"] = "London".into();
    event
}

fn case<'c>(
    metadata: Value,
    calls: usize,
    is_done: &'c (dyn Fn(&Tables) -> bool + Sync),
) -> Case<'c, Tables> {
    Case {
        metadata,
        payload: event(),
        is_done,
        calls,
        is_repeatable: true,
        refused: (error(400, "INVALID_FIELD", "No such column"), "INVALID_FIELD: No such column"),
        slower: (
            error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
            Duration::from_secs(900),
        ),
        locked: (error(403, "API_DISABLED_FOR_ORG", "not enabled"), InactiveReason::AuthenticationInvalid),
    }
}

#[tokio::test]
async fn every_action_does_what_it_says_and_tells_what_goes_wrong() {
    let (mut subject, fake) = start().await;
    {
        let mut tables = fake.tables();
        tables.put("Contact", "003A", json!({ "Id": "003A", "Email": ADA }));
        tables.put("Contact", "003B", json!({ "Id": "003B", "Email": ADA }));
        tables.put(
            "Lead",
            "00QA",
            json!({ "Id": "00QA", "Email": ADA, "IsConverted": false, "ConvertedContactId": null }),
        );
        tables.put(
            "CampaignMember",
            "00vX",
            json!({ "Id": "00vX", "CampaignId": "7010", "ContactId": "003A" }),
        );
        tables.keeps_members = true;
    }
    let ada = |tables: &Tables| tables.records["Contact"]["003A"].clone();
    let cases: [(&str, Value, usize, IsDone<'_, Tables>); 6] = [
        ("add_to_campaign", json!({ "id": "7011" }), 2, &|tables| {
            let member =
                tables.of("CampaignMember").into_iter().find(|member| member["CampaignId"] == "7011");
            member.is_some_and(|member| member["ContactId"] == "003A" && member["Status"] == "Sent")
        }),
        ("remove_from_campaign", json!({ "id": "7010" }), 3, &|tables| {
            tables.deleted.iter().all(|id| id == "00vX") && !tables.deleted.is_empty()
        }),
        ("update_property", json!({ "id": "Tier__c", "value": "free" }), 2, &|tables| {
            ada(tables)["Tier__c"] == "free"
        }),
        ("upsert_contact", json!({}), 2, &|tables| {
            ada(tables)["FirstName"] == "Ada" && ada(tables).get("Company").is_none()
        }),
        ("upsert_lead", json!({}), 2, &|tables| {
            let lead = &tables.records["Lead"]["00QA"];
            lead["Company"] == "Engines" && lead["City"] == "London"
        }),
        ("upsert_by_external_id", json!({ "id": "Tier__c" }), 1, &|tables| {
            tables.records["Contact"]["x-pro"]["LastName"] == "Lovelace"
        }),
    ];
    for (action, mut metadata, calls, is_done) in cases {
        metadata["action"] = action.into();
        let name = format!("salesforce_{action}");
        suite::ask(&name, &mut subject, &fake, &[TOKEN], case(metadata, calls, is_done)).await;
    }
    assert_eq!(fake.tables().records["Contact"]["003B"].get("FirstName"), None, "of two it is the older one");
}

#[tokio::test]
async fn a_contact_who_is_not_there_is_made() {
    let (mut subject, fake) = start().await;
    fake.tables().finds = false;
    let is_done = |tables: &Tables| {
        let contacts = tables.of("Contact");
        contacts.iter().all(|contact| contact["LastName"] == "Lovelace" && contact["Tier__c"] == "pro")
            && !contacts.is_empty()
    };
    let upsert = json!({ "action": "upsert_contact" });
    let once = Case { is_repeatable: false, ..case(upsert.clone(), 2, &is_done) };
    suite::ask("salesforce_make_contact", &mut subject, &fake, &[TOKEN], once).await;
    // The campaign is unwell, the contact is made: the next attempt does not make it again.
    subject.next_delivery();
    let before = fake.tables().of("Contact").len();
    let add = json!({ "action": "add_to_campaign", "id": "7011" });
    fake.fail([Fault::None, Fault::None, Fault::status(503, "").with("retry-after", "5")]);
    let report = subject.deliver(&add, &event()).await;
    assert_eq!(report.outcome, Outcome::RejectedServerError, "{}", report.message);
    let report = subject.deliver_after(&add, &event(), report.notes.as_deref()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.tables().of("Contact").len(), before + 1);
    for (why, payload, expected) in [
        ("no last name", json!({ "email": "grace@example.com" }), "grace"),
        ("nothing to call it by", json!({ "email": "@example.com" }), "Unknown"),
    ] {
        subject.next_delivery();
        fake.tables().records.clear();
        subject.deliver(&upsert, &payload).await;
        assert_eq!(fake.tables().of("Contact")[0]["LastName"], expected, "{why}");
    }
    subject.next_delivery();
    fake.tables().records.clear();
    let property = json!({ "action": "update_property", "id": "Tier__c", "value": "free" });
    subject.deliver(&property, &event()).await;
    assert_eq!(fake.tables().of("Contact")[0]["Tier__c"], "free", "with the rule's value");
    subject.next_delivery();
    subject.deliver(&json!({ "action": "upsert_lead" }), &event()).await;
    assert_eq!(fake.tables().of("Lead")[0]["City"], "London");
    subject.next_delivery();
    fake.seen();
    let gone = subject.deliver(&json!({ "action": "remove_from_campaign", "id": "7011" }), &event()).await;
    assert_eq!((gone.outcome, fake.seen().len()), (Outcome::Delivered, 1), "nobody is in it");
}

#[tokio::test]
async fn two_who_ask_at_once_make_one_contact() {
    let (subject, fake) = start().await;
    let (again, upsert) = (subject.another(), json!({ "action": "upsert_contact" }));
    let (one, other) = (event(), event());
    let (first, second) = tokio::join!(subject.deliver(&upsert, &one), again.deliver(&upsert, &other));
    assert_eq!((first.outcome, second.outcome), (Outcome::Delivered, Outcome::Delivered));
    assert_eq!(fake.tables().of("Contact").len(), 1);
}

#[tokio::test]
async fn a_converted_lead_is_its_contact() {
    let (mut subject, fake) = start().await;
    let lead = |contact: Value| json!({ "Id": "00QA", "Email": ADA, "IsConverted": true, "ConvertedContactId": contact });
    fake.tables().put("Contact", "003A", json!({ "Id": "003A", "Email": "other@example.com" }));
    fake.tables().put("Lead", "00QA", lead("003A".into()));
    let upsert = json!({ "action": "upsert_lead" });
    let report = subject.deliver(&upsert, &event()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.tables().records["Contact"]["003A"]["MailingCity"], "London");
    subject.next_delivery();
    fake.tables().put("Lead", "00QA", lead(Value::Null));
    assert_eq!(subject.deliver(&upsert, &event()).await.outcome, Outcome::RejectedClientError);
}

#[tokio::test]
async fn answers_mean_what_salesforce_means_by_them() {
    use Outcome::*;
    let (mut subject, fake) = start().await;
    let metadata = json!({ "action": "upsert_by_external_id", "id": "Tier__c" });
    let add = json!({ "action": "add_to_campaign", "id": "7011" });
    fake.tables().put("Contact", "003A", json!({ "Id": "003A", "Email": ADA }));
    for (why, metadata, fault, outcome) in [
        (
            "a row is locked",
            &metadata,
            error(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"),
            RejectedServerError,
        ),
        (
            "a trigger met a lock",
            &metadata,
            error(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "x: UNABLE_TO_LOCK_ROW"),
            RejectedServerError,
        ),
        (
            "a trigger failed",
            &metadata,
            error(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "x: bad"),
            RejectedClientError,
        ),
        ("several match", &metadata, Fault::status(300, "[\"/a\",\"/b\"]"), RejectedClientError),
        (
            "the session is over",
            &metadata,
            error(401, "INVALID_SESSION_ID", "Session expired or invalid"),
            AuthFailed,
        ),
        ("not there", &metadata, error(404, "NOT_FOUND", "no"), RejectedClientError),
        (
            "a failure in a success",
            &metadata,
            Fault::status(200, r#"{"success":false,"errors":[]}"#),
            RejectedClientError,
        ),
        ("unwell", &metadata, error(500, "UNKNOWN_EXCEPTION", "no"), RejectedServerError),
        ("already a member", &add, error(400, "DUPLICATE_VALUE", "Already a campaign member."), Delivered),
        (
            "another duplicate",
            &add,
            error(400, "DUPLICATE_VALUE", "duplicate value found: X__c"),
            RejectedClientError,
        ),
    ] {
        subject.next_delivery();
        let before = usize::from(metadata["action"] == "add_to_campaign");
        fake.fail(std::iter::repeat_n(Fault::None, before).chain([fault]));
        let report = subject.deliver(metadata, &event()).await;
        assert_eq!(report.outcome, outcome, "{why}: {}", report.message);
    }
}

#[tokio::test]
async fn a_session_that_ended_is_renewed_once() {
    let fake = Fake::start(routes).await;
    fake.tables().put("Contact", "003A", json!({ "Id": "003A", "Email": ADA }));
    let tokens = Consented::of(&["ended", TOKEN]);
    let subject =
        Subject::new("salesforce", json!({ "instance_url": fake.url() })).tokens(&tokens).mapping(&FIELDS);
    let report = subject.deliver(&json!({ "action": "upsert_contact" }), &event()).await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.seen().len(), 3, "the first call twice");
    let answer = json!({
        "access_token": "a", "instance_url": "https://acme.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D1/0051", "issued_at": "1708058728442",
    });
    let salesforce = destinations::find("salesforce").expect("salesforce");
    let expected =
        json!({ "instance_url": "https://acme.my.salesforce.com", "org_id": "00D1", "user_id": "0051" });
    assert_eq!(Value::from(salesforce.told(&answer)), expected);
    assert_eq!(Value::from(salesforce.told(&json!({ "access_token": "a" }))), json!({}));
    let errors = Subject::new("salesforce", json!({ "access_token": TOKEN })).checked().expect_err("where?");
    assert_eq!(errors[0].param, "instance_url");
}

#[tokio::test]
async fn what_is_missing_is_said_before_any_call_and_a_text_stays_a_text() {
    let (mut subject, fake) = start().await;
    for (why, metadata, payload) in [
        ("no address", json!({ "action": "upsert_contact" }), json!({ "name": "Ada" })),
        ("no campaign", json!({ "action": "add_to_campaign" }), event()),
        (
            "a campaign that is a query",
            json!({ "action": "remove_from_campaign", "id": "7' OR Id != '" }),
            event(),
        ),
        ("no value", json!({ "action": "update_property", "id": "Tier__c" }), event()),
        ("a lead without a company", json!({ "action": "upsert_lead" }), payload()),
        ("no external id", json!({ "action": "upsert_by_external_id", "id": "None__c" }), event()),
        (
            "a line in an address",
            json!({ "action": "upsert_contact" }),
            json!({ "email": "a\n@example.com" }),
        ),
    ] {
        let report = subject.deliver(&metadata, &payload).await;
        assert_eq!(report.outcome, Outcome::MappingError, "{why}: {}", report.message);
    }
    assert!(fake.seen().is_empty());
    let odd = "o'neil\\@example.com";
    fake.tables().put("Contact", "003A", json!({ "Id": "003A", "Email": odd }));
    fake.tables().put("Contact", "003B", json!({ "Id": "003B", "Email": ADA }));
    subject.next_delivery();
    let report = subject
        .deliver(&json!({ "action": "upsert_contact" }), &json!({ "email": odd, "first_name": "O" }))
        .await;
    assert_eq!(report.outcome, Outcome::Delivered, "{}", report.message);
    assert_eq!(fake.tables().records["Contact"]["003A"]["FirstName"], "O", "it is found by what it is");
    assert_eq!(fake.tables().of("Contact").len(), 2);
}

#[tokio::test]
async fn the_org_tells_what_is_in_it() {
    let (subject, fake) = start().await;
    let (prepared, wait) = (subject.prepared(), Duration::from_secs(5));
    let campaigns = prepared.items("campaigns", subject.http(), wait).await.expect("campaigns");
    assert_eq!((campaigns.len(), &campaigns[4].id[..], &campaigns[4].name[..]), (5, "7015", "Campaign 5"));
    assert_eq!(fake.seen().len(), 2, "all pages");
    let properties = prepared.items("properties", subject.http(), wait).await.expect("properties");
    let ids: Vec<_> = properties.iter().map(|item| (&item.id[..], item.options.len())).collect();
    assert_eq!(ids, [("LeadSource", 2), ("Tier__c", 2), ("Topics__c", 2)], "values of today alone");
    let fields = prepared.fields(subject.http(), wait).await.expect("fields");
    let own: Vec<_> = fields[12..].iter().map(|field| (&field.key[..], field.kind)).collect();
    use CatalogFieldKind::{Enum, MultiEnum, Number, String};
    assert_eq!(own, [("Tier__c", Enum), ("Topics__c", MultiEnum), ("Age__c", Number), ("Code__c", String)]);
    let code = fields[15].constraints.as_ref().expect("constraints");
    assert_eq!((code.required, code.max_length), (Some(true), Some(20)));
    assert_eq!(subject.probe().await, Ok(()));
    fake.fail([error(403, "INSUFFICIENT_ACCESS", "View Setup is missing")]);
    assert_eq!(subject.probe().await, Ok(()), "who may not see the limits");
    fake.fail([error(403, "API_DISABLED_FOR_ORG", "no")]);
    assert!(subject.probe().await.expect_err("403").contains("API_DISABLED_FOR_ORG"));
    fake.tables().token = "another";
    assert!(subject.probe().await.expect_err("401").contains("INVALID_SESSION_ID"));
}
