//! What there is in each service, and what a person would see there.

use crate::{
    fakes::{
        Fault, activecampaign, aweber, customer_io, discord, hubspot, intercom, mailchimp, mailerlite,
        pipedrive, resend, salesforce, sendgrid, slack, zoom,
    },
    story::{Act, Story, in_seconds},
};
use serde_json::{Value, json};

/// An action with the id of what was picked, and what it has led to.
fn act<T>(action: &str, id: &str, is_done: fn(&T) -> bool) -> Act<T> {
    Act { metadata: json!({ "action": action, "id": id }), is_done }
}

fn with<T>(metadata: Value, is_done: fn(&T) -> bool) -> Act<T> {
    Act { metadata, is_done }
}

/// Who has no address can be found nowhere.
fn nobody() -> (Value, &'static str) {
    (json!({ "first_name": "Ada" }), "email")
}

fn said(status: u16, body: &Value) -> Fault {
    Fault::status(status, &body.to_string())
}

pub fn activecampaign() -> Story<activecampaign::Tables> {
    type Tables = activecampaign::Tables;
    fn is_subscribed(tables: &Tables, status: &str) -> bool {
        tables.subscriptions.values().collect::<Vec<_>>() == [status]
    }
    let is_there = |tables: &Tables| {
        tables.contacts.get("ada@example.com").is_some_and(|contact| {
            contact.fields["firstName"] == "Ada"
                && contact.fields["fieldValues"] == json!([{ "field": "6", "value": "pro" }])
        })
    };
    Story {
        kind: "activecampaign",
        routes: activecampaign::routes,
        hosts: &[],
        settings: |url| json!({ "api_url": url, "api_key": activecampaign::KEY }),
        secret: activecampaign::KEY,
        mapping: &[("email", "email"), ("firstName", "first_name"), ("6", "tier")],
        picks: &[("add_to_list", "lists", "103"), ("add_tag", "tags", "20")],
        actions: vec![
            with(json!({ "action": "sync_contact" }), is_there),
            act("add_to_list", "20", |tables| is_subscribed(tables, "1")),
            act("remove_from_list", "20", |tables| is_subscribed(tables, "2")),
            act("add_tag", "20", |tables| tables.tagged.len() == 1),
            act("remove_tag", "20", |tables| tables.tagged.is_empty()),
        ],
        lacking: nobody(),
        slower: || (Fault::status(429, "{}").with("retry-after", "30"), 30),
        locked: said(403, &json!({ "message": "You do not have permission to access this resource" })),
    }
}

pub fn aweber() -> Story<aweber::Tables> {
    type Tables = aweber::Tables;
    fn ada(tables: &Tables) -> Option<&aweber::Subscriber> {
        tables.subscribers.get(&("1".to_owned(), "ada@example.com".to_owned()))
    }
    fn error(kind: &str, message: &str) -> Value {
        json!({ "error": { "status": 403, "type": kind, "message": message } })
    }
    let both = |action: &str| json!({ "action": action, "id": "1", "tag": "vip" });
    Story {
        kind: "aweber",
        routes: aweber::routes,
        hosts: &["api.aweber.com"],
        settings: |_| json!({ "access_token": aweber::TOKEN, "account_id": aweber::ACCOUNT }),
        secret: aweber::TOKEN,
        mapping: &[("email", "email"), ("name", "first_name"), ("custom_fields.source", "source")],
        picks: &[("add_to_list", "lists", "1")],
        actions: vec![
            act("add_to_list", "1", |tables| {
                ada(tables).is_some_and(|ada| {
                    ada.status == "subscribed" && ada.body["custom_fields"] == json!({ "source": "signup" })
                })
            }),
            with(both("add_tag"), |tables| ada(tables).is_some_and(|ada| ada.tags == ["vip"])),
            with(both("remove_tag"), |tables| ada(tables).is_some_and(|ada| ada.tags.is_empty())),
            act("remove_from_list", "1", |tables| {
                ada(tables).is_some_and(|ada| ada.status == "unsubscribed")
            }),
        ],
        lacking: nobody(),
        slower: || (said(403, &error("ForbiddenError", "Rate Limit Error")), 60),
        locked: said(403, &error("ForbiddenError", "Account Temporarily Suspended")),
    }
}

pub fn customer_io() -> Story<customer_io::Tables> {
    type Tables = customer_io::Tables;
    let is_known = |tables: &Tables| {
        tables
            .people
            .get("usr_123")
            .is_some_and(|ada| ada["email"] == "ada@example.com" && ada["first_name"] == "Ada")
    };
    Story {
        kind: "customer_io",
        routes: customer_io::routes,
        hosts: &["cdp.customer.io"],
        settings: |_| json!({ "region": "us", "cdpApiKey": customer_io::KEY }),
        secret: customer_io::KEY,
        mapping: &[],
        picks: &[],
        actions: vec![
            with(json!({ "action": "identify_person" }), is_known),
            with(json!({ "action": "track_event", "event_name_override": "Signed up" }), |tables| {
                tables.messages.values().any(|event| {
                    event["event"] == "Signed up"
                        && event["properties"] == json!({ "source": "signup", "tier": "pro" })
                })
            }),
            act("group", "acme", |tables| tables.messages.values().any(|group| group["groupId"] == "acme")),
        ],
        lacking: (json!({ "first_name": "Ada" }), "userId"),
        slower: || (said(429, &json!({ "meta": { "error": "slow down" } })).with("retry-after", "30"), 30),
        locked: said(401, &json!({ "errors": [{ "detail": "Invalid write key", "status": "401" }] })),
    }
}

pub fn discord() -> Story<discord::Tables> {
    Story {
        kind: "discord",
        routes: discord::routes,
        hosts: &["discord.com"],
        settings: |_| json!({ "bot_token": discord::TOKEN, "guild_id": discord::GUILD }),
        secret: discord::TOKEN,
        mapping: &[],
        picks: &[("send_message", "channels", "11")],
        actions: vec![with(
            json!({ "action": "send_message", "id": "11", "title": "New: {{source}}", "template": "{{first_name}} <{{email}}>" }),
            |tables| {
                tables.messages.last().is_some_and(|(channel, body)| {
                    channel == "11"
                        && body["embeds"][0]["title"] == "New: signup"
                        && body["embeds"][0]["description"] == "Ada <ada@example.com>"
                })
            },
        )],
        lacking: (json!({ "source": "x".repeat(5_000) }), "characters"),
        slower: || {
            (
                said(
                    429,
                    &json!({ "message": "You are being rate limited.", "retry_after": 64.57, "global": false }),
                ),
                65,
            )
        },
        locked: said(401, &json!({ "message": "401: Unauthorized", "code": 0 })),
    }
}

pub fn hubspot() -> Story<hubspot::Tables> {
    type Tables = hubspot::Tables;
    fn ada(tables: &Tables) -> Option<&Value> {
        tables.contacts.get("ada@example.com").map(|(_, properties)| properties)
    }
    fn error(status: u16, category: &str, message: &str) -> Fault {
        said(status, &json!({ "status": "error", "category": category, "message": message }))
    }
    Story {
        kind: "hubspot",
        routes: hubspot::routes,
        hosts: &["api.hubapi.com"],
        settings: |_| json!({ "access_token": hubspot::TOKEN }),
        secret: hubspot::TOKEN,
        mapping: &[("email", "email"), ("firstname", "first_name"), ("tier", "tier")],
        picks: &[("add_to_list", "lists", "7"), ("update_property", "properties", "tier")],
        actions: vec![
            with(json!({ "action": "upsert_contact" }), |tables| {
                ada(tables).is_some_and(|ada| ada["firstname"] == "Ada" && ada["tier"] == "pro")
            }),
            act("add_to_list", "7", |tables| tables.members.len() == 1),
            act("remove_from_list", "7", |tables| tables.members.is_empty()),
            with(json!({ "action": "update_property", "id": "tier", "value": "free" }), |tables| {
                ada(tables).is_some_and(|ada| ada["tier"] == "free")
            }),
            with(
                json!({ "action": "create_deal", "title": "{{first_name}} – {{tier}}", "amount": "1500" }),
                |tables| matches!(&tables.deals[..], [deal] if deal["properties"]["dealname"] == "Ada – pro"),
            ),
            with(
                json!({ "action": "send_custom_event", "event_name": "pe62515_signup", "event_properties": "source" }),
                |tables| {
                    tables.events.values().any(|event| event["properties"] == json!({ "source": "signup" }))
                },
            ),
        ],
        lacking: nobody(),
        slower: || {
            (
                error(429, "RATE_LIMITS", "You have reached your ten_secondly_rolling limit.")
                    .with("x-hubspot-ratelimit-interval-milliseconds", "10000"),
                10,
            )
        },
        locked: error(403, "MISSING_SCOPES", "This app hasn't been granted all required scopes"),
    }
}

pub fn intercom() -> Story<intercom::Tables> {
    type Tables = intercom::Tables;
    let is_there = |tables: &Tables| {
        let contacts: Vec<_> = tables.contacts.values().collect();
        matches!(&contacts[..], [ada]
            if ada["email"] == "ada@example.com" && ada["custom_attributes"] == json!({ "tier": "pro" }))
    };
    Story {
        kind: "intercom",
        routes: intercom::routes,
        hosts: &["api.intercom.io"],
        settings: |_| json!({ "access_token": intercom::TOKEN }),
        secret: intercom::TOKEN,
        mapping: &[("email", "email"), ("custom_attributes.tier", "tier")],
        picks: &[("add_tag", "tags", intercom::TAG)],
        actions: vec![
            with(json!({ "action": "upsert_contact" }), is_there),
            act("add_tag", intercom::TAG, |tables| tables.tagged.len() == 1),
            act("remove_tag", intercom::TAG, |tables| tables.tagged.is_empty()),
            with(json!({ "action": "track_event", "event_name_override": "signed-up" }), |tables| {
                tables.events.keys().any(|(_, name, _)| name == "signed-up")
            }),
            with(
                json!({ "action": "add_note", "template": "By <b>{{source}}</b>" }),
                |tables| matches!(&tables.notes[..], [(_, note)] if note["body"] == "By <b>signup</b>"),
            ),
            with(
                json!({ "action": "upsert_company", "company_id": "acme", "company_name": "Acme {{source}}", "plan": "{{tier}}" }),
                |tables| {
                    tables
                        .companies
                        .get("acme")
                        .is_some_and(|acme| acme["name"] == "Acme signup" && acme["plan"] == "pro")
                        && tables.employed.len() == 1
                },
            ),
        ],
        lacking: nobody(),
        slower: || {
            (
                said(
                    429,
                    &intercom::error("rate_limit_exceeded", "Exceeded rate limit of 1666 in 10_seconds"),
                )
                .with("x-ratelimit-reset", in_seconds(60)),
                60,
            )
        },
        locked: said(401, &intercom::error("token_revoked", "Token revoked")),
    }
}

pub fn mailchimp() -> Story<mailchimp::Tables> {
    type Tables = mailchimp::Tables;
    fn ada(tables: &Tables) -> Option<&mailchimp::Member> {
        tables.members.values().find(|member| member.body["email_address"] == "ada@example.com")
    }
    let tag = |action: &str| json!({ "action": action, "id": mailchimp::LIST, "tag": "vip" });
    Story {
        kind: "mailchimp",
        routes: mailchimp::routes,
        hosts: &["us19.api.mailchimp.com"],
        settings: |_| json!({ "api_key": mailchimp::KEY }),
        secret: mailchimp::KEY,
        mapping: &[("email_address", "email"), ("FNAME", "first_name"), ("TIER", "tier")],
        picks: &[("add_to_list", "lists", mailchimp::LIST)],
        actions: vec![
            act("add_to_list", mailchimp::LIST, |tables| {
                ada(tables).is_some_and(|ada| {
                    ada.status == "subscribed"
                        && ada.body["merge_fields"] == json!({ "FNAME": "Ada", "TIER": "pro" })
                })
            }),
            with(tag("add_tag"), |tables| ada(tables).is_some_and(|ada| ada.tags == ["vip"])),
            with(tag("remove_tag"), |tables| ada(tables).is_some_and(|ada| ada.tags.is_empty())),
            with(
                json!({ "action": "track_event", "id": mailchimp::LIST, "event_name_override": "signed_up" }),
                |tables| matches!(&tables.events[..], [event] if event["name"] == "signed_up"),
            ),
            act("remove_from_list", mailchimp::LIST, |tables| {
                ada(tables).is_some_and(|ada| ada.status == "unsubscribed")
            }),
        ],
        lacking: nobody(),
        slower: || {
            (
                said(429, &json!({ "title": "Too Many Requests", "status": 429, "detail": "Slow down." }))
                    .with("retry-after", "30"),
                30,
            )
        },
        locked: said(
            403,
            &json!({ "title": "User Disabled", "status": 403, "detail": "This account has been deactivated." }),
        ),
    }
}

pub fn mailerlite() -> Story<mailerlite::Tables> {
    type Tables = mailerlite::Tables;
    fn is(tables: &Tables, status: &str, groups: usize) -> bool {
        tables.subscribers.get("ada@example.com").is_some_and(|ada| {
            ada.fields == json!({ "name": "Ada", "last_name": "Lovelace" })
                && ada.status == status
                && ada.groups.len() == groups
        })
    }
    Story {
        kind: "mailerlite",
        routes: mailerlite::routes,
        hosts: &["connect.mailerlite.com"],
        settings: |_| json!({ "api_key": mailerlite::KEY }),
        secret: mailerlite::KEY,
        mapping: &[("email", "email"), ("fields.name", "first_name"), ("fields.last_name", "last_name")],
        picks: &[("add_to_group", "groups", "2")],
        actions: vec![
            with(json!({ "action": "upsert_subscriber" }), |tables| is(tables, "active", 0)),
            act("add_to_group", "2", |tables| is(tables, "active", 1)),
            act("remove_from_group", "2", |tables| is(tables, "active", 0)),
            with(json!({ "action": "unsubscribe" }), |tables| is(tables, "unsubscribed", 0)),
        ],
        lacking: nobody(),
        slower: || (said(429, &json!({ "message": "Too Many Attempts." })).with("retry-after", "37"), 37),
        locked: said(401, &json!({ "message": "Unauthenticated." })),
    }
}

pub fn pipedrive() -> Story<pipedrive::Tables> {
    type Tables = pipedrive::Tables;
    fn ada(tables: &Tables) -> Option<&Value> {
        tables.persons.values().find(|person| person["emails"][0]["value"] == "ada@example.com")
    }
    fn error(status: u16, message: &str) -> Fault {
        said(status, &json!({ "success": false, "error": message }))
    }
    Story {
        kind: "pipedrive",
        routes: pipedrive::routes,
        hosts: &["api.pipedrive.com"],
        settings: |_| json!({ "api_token": pipedrive::TOKEN }),
        secret: pipedrive::TOKEN,
        mapping: &[("email", "email"), ("first_name", "first_name"), (pipedrive::TIER, "tier")],
        picks: &[
            ("update_person_field", "properties", pipedrive::TIER),
            ("add_label_to_person", "labels", "8"),
        ],
        actions: vec![
            with(json!({ "action": "sync_person" }), |tables| {
                ada(tables)
                    .is_some_and(|ada| ada["name"] == "Ada" && ada["custom_fields"][pipedrive::TIER] == 191)
            }),
            with(
                json!({ "action": "update_person_field", "id": pipedrive::TIER, "value": "190" }),
                |tables| tables.patches.last() == Some(&json!({ "custom_fields": { pipedrive::TIER: 190 } })),
            ),
            act("add_label_to_person", "8", |tables| {
                ada(tables).is_some_and(|ada| ada["label_ids"] == json!([8]))
            }),
            act("remove_label_from_person", "8", |tables| {
                ada(tables).is_some_and(|ada| ada["label_ids"] == json!([]))
            }),
        ],
        lacking: nobody(),
        slower: || (error(429, "request over limit").with("retry-after", "30"), 30),
        locked: error(403, "Scope and URL mismatch"),
    }
}

pub fn resend() -> Story<resend::Tables> {
    type Tables = resend::Tables;
    let is_there = |tables: &Tables| {
        tables
            .contacts
            .get("ada@example.com")
            .is_some_and(|ada| ada["first_name"] == "Ada" && ada["properties"] == json!({ "tier": "pro" }))
    };
    fn error(status: u16, name: &str, message: &str) -> Fault {
        said(status, &json!({ "statusCode": status, "name": name, "message": message }))
    }
    Story {
        kind: "resend",
        routes: resend::routes,
        hosts: &["api.resend.com"],
        settings: |_| json!({ "api_key": resend::KEY, "default_from": "Acme <hi@acme.com>" }),
        secret: resend::KEY,
        mapping: &[("email", "email"), ("first_name", "first_name"), ("properties.tier", "tier")],
        picks: &[("add_to_segment", "segments", "s1"), ("send_email_template", "templates", "t1")],
        actions: vec![
            with(json!({ "action": "upsert_contact" }), is_there),
            act("add_to_segment", "s1", |tables| tables.members.len() == 1),
            act("remove_from_segment", "s1", |tables| tables.members.is_empty()),
            with(json!({ "action": "send_email_template", "id": "t1" }), |tables| {
                tables.mails.values().any(|mail| mail["template"]["id"] == "t1")
            }),
            with(
                json!({ "action": "send_email", "subject": "Hi {{first_name}}", "body": "<b>{{tier}}</b>" }),
                |tables| {
                    tables
                        .mails
                        .values()
                        .any(|mail| mail["subject"] == "Hi Ada" && mail["html"] == "<b>pro</b>")
                },
            ),
        ],
        lacking: nobody(),
        slower: || (error(429, "rate_limit_exceeded", "Too many requests.").with("retry-after", "30"), 30),
        locked: error(403, "invalid_api_key", "API key is invalid"),
    }
}

pub fn salesforce() -> Story<salesforce::Tables> {
    type Tables = salesforce::Tables;
    fn one<'t>(tables: &'t Tables, kind: &str) -> Option<&'t Value> {
        let found = tables.of(kind);
        found.first().filter(|_| found.len() == 1).copied()
    }
    fn error(status: u16, code: &str, message: &str) -> Fault {
        said(status, &json!([{ "message": message, "errorCode": code, "fields": [] }]))
    }
    Story {
        kind: "salesforce",
        routes: salesforce::routes,
        hosts: &[],
        settings: |url| json!({ "access_token": salesforce::TOKEN, "instance_url": url }),
        secret: salesforce::TOKEN,
        mapping: &[
            ("Email", "email"),
            ("FirstName", "first_name"),
            ("LastName", "last_name"),
            ("Company", "source"),
            ("Tier__c", "tier"),
            ("Code__c", "id"),
        ],
        picks: &[("add_to_campaign", "campaigns", "7011"), ("update_property", "properties", "Tier__c")],
        actions: vec![
            with(json!({ "action": "upsert_contact" }), |tables| {
                one(tables, "Contact")
                    .is_some_and(|ada| ada["LastName"] == "Lovelace" && ada["Tier__c"] == "pro")
            }),
            with(json!({ "action": "add_to_campaign", "id": "7011", "status": "Responded" }), |tables| {
                one(tables, "CampaignMember")
                    .is_some_and(|member| member["CampaignId"] == "7011" && member["Status"] == "Responded")
            }),
            act("remove_from_campaign", "7011", |tables| tables.of("CampaignMember").is_empty()),
            with(json!({ "action": "update_property", "id": "Tier__c", "value": "free" }), |tables| {
                one(tables, "Contact").is_some_and(|ada| ada["Tier__c"] == "free")
            }),
            with(json!({ "action": "upsert_lead" }), |tables| {
                one(tables, "Lead").is_some_and(|lead| lead["Company"] == "signup")
            }),
            act("upsert_by_external_id", "Code__c", |tables| {
                tables.records["Contact"].get("x-usr_123").is_some_and(|ada| ada["LastName"] == "Lovelace")
            }),
        ],
        lacking: (json!({ "first_name": "Ada" }), "Email"),
        slower: || (error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), 900),
        locked: error(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this organization."),
    }
}

pub fn sendgrid() -> Story<sendgrid::Tables> {
    type Tables = sendgrid::Tables;
    let is_there = |tables: &Tables| {
        tables.contacts.get("ada@example.com").is_some_and(|ada| {
            ada["first_name"] == "Ada" && ada["custom_fields"] == json!({ "e1_T": "signup" })
        })
    };
    fn error(message: &str) -> Value {
        json!({ "errors": [{ "field": null, "message": message, "help": null }] })
    }
    Story {
        kind: "sendgrid",
        routes: sendgrid::routes,
        hosts: &["api.sendgrid.com"],
        settings: |_| json!({ "api_key": sendgrid::KEY, "default_from": "hi@acme.com" }),
        secret: sendgrid::KEY,
        mapping: &[("email", "email"), ("first_name", "first_name"), ("e1_T", "source")],
        picks: &[("add_to_list", "lists", "l1"), ("send_email_template", "templates", "d-1")],
        actions: vec![
            with(json!({ "action": "upsert_contact" }), is_there),
            act("add_to_list", "l1", |tables| tables.members.len() == 1),
            act("remove_from_list", "l1", |tables| tables.members.is_empty()),
            with(json!({ "action": "send_email_template", "id": "d-1" }), |tables| {
                tables.mails.iter().any(|mail| mail["template_id"] == "d-1")
            }),
            with(
                json!({ "action": "send_email", "subject": "Hi {{first_name}}", "body": "<b>{{tier}}</b>" }),
                |tables| {
                    tables.mails.iter().any(|mail| {
                        mail["subject"] == "Hi Ada" && mail["content"][0]["value"] == "<b>pro</b>"
                    })
                },
            ),
        ],
        lacking: nobody(),
        slower: || (said(429, &error("too many requests")).with("x-ratelimit-reset", in_seconds(60)), 60),
        locked: said(401, &error("authorization required")),
    }
}

pub fn slack() -> Story<slack::Tables> {
    type Tables = slack::Tables;
    fn last(tables: &Tables, to: &str, says: &str) -> bool {
        tables.messages.last().is_some_and(|(channel, body)| channel == to && body["text"] == says)
    }
    Story {
        kind: "slack",
        routes: slack::routes,
        hosts: &["slack.com"],
        settings: |_| json!({ "access_token": slack::TOKEN }),
        secret: slack::TOKEN,
        mapping: &[],
        picks: &[("send_message", "channels", "C1")],
        actions: vec![
            with(json!({ "action": "send_dm", "template": "Hello {{first_name}}" }), |tables| {
                last(tables, "U7", "Hello Ada")
            }),
            with(
                json!({ "action": "send_message", "id": "C1", "template": "New: *{{first_name}}* <{{email}}>" }),
                |tables| last(tables, "C1", "New: *Ada* <ada@example.com>"),
            ),
        ],
        lacking: nobody(),
        slower: || (said(429, &json!({ "ok": false, "error": "ratelimited" })).with("retry-after", "30"), 30),
        locked: said(200, &json!({ "ok": false, "error": "token_revoked" })),
    }
}

pub fn zoom() -> Story<zoom::Tables> {
    type Tables = zoom::Tables;
    fn is_registered(tables: &Tables, id: &str) -> bool {
        tables
            .registrants
            .get(&(id.to_owned(), "ada@example.com".to_owned()))
            .is_some_and(|ada| ada["first_name"] == "Ada" && ada["last_name"] == "Lovelace")
    }
    Story {
        kind: "zoom",
        routes: zoom::routes,
        hosts: &["api.zoom.us"],
        settings: |_| json!({ "access_token": zoom::TOKEN }),
        secret: zoom::TOKEN,
        mapping: &[("email", "email"), ("first_name", "first_name"), ("last_name", "last_name")],
        picks: &[
            ("add_meeting_registrant", "meetings", zoom::MEETING),
            ("add_webinar_registrant", "webinars", zoom::WEBINAR),
        ],
        actions: vec![
            act("add_meeting_registrant", zoom::MEETING, |tables| is_registered(tables, zoom::MEETING)),
            act("add_webinar_registrant", zoom::WEBINAR, |tables| is_registered(tables, zoom::WEBINAR)),
            act("cancel_meeting_registrant", zoom::MEETING, |tables| !is_registered(tables, zoom::MEETING)),
        ],
        lacking: nobody(),
        slower: || {
            (
            said(429, &json!({ "code": 429, "message": "You have reached the maximum daily rate limit for this API." }))
                .with("retry-after", "30"),
            30,
        )
        },
        locked: said(
            400,
            &json!({ "code": 4711, "message": "Invalid access token, does not contain scopes:[meeting:write:registrant]." }),
        ),
    }
}
