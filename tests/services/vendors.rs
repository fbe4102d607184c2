//! How each vendor asks a person, and what its answers tell.

use crate::{
    accounts,
    consented::Consent,
    fakes::{Fault, aweber, discord, hubspot, intercom, mailchimp, pipedrive, salesforce, slack, zoom},
    support::vendor::Traits,
};
use serde_json::json;

/// Asks once in the form, gives a token for good.
const PLAIN: Traits = Traits {
    is_basic: false,
    wants_proof: false,
    refreshes: false,
    rotates: false,
    life_s: None,
    errs_with_200: false,
    scope: None,
};

pub fn aweber() -> Consent<aweber::Tables> {
    Consent {
        story: accounts::aweber(),
        hosts: &["auth.aweber.com"],
        paths: ["/oauth2/authorize", "/oauth2/token"],
        traits: Traits {
            is_basic: true,
            refreshes: true,
            life_s: Some(7_200),
            scope: Some("account.read list.read subscriber.read subscriber.write subscriber.read-extended"),
            ..PLAIN
        },
        tells: |_| json!({}),
        metadata: json!({}),
        knows: json!({ "account_id": aweber::ACCOUNT }),
        take: Some(|tables, token| tables.token = token),
        gone: None,
    }
}

/// Its bot is the operator's: a consent tells the server, and its tokens are of no use.
pub fn discord() -> Consent<discord::Tables> {
    Consent {
        story: accounts::discord(),
        hosts: &[],
        paths: ["/oauth2/authorize", "/api/oauth2/token"],
        traits: Traits {
            is_basic: true,
            refreshes: true,
            rotates: true,
            life_s: Some(604_800),
            scope: Some("bot identify"),
            ..PLAIN
        },
        tells: |_| json!({ "guild": { "id": discord::GUILD, "name": "Acme" } }),
        metadata: json!({}),
        knows: json!({ "guild_id": discord::GUILD, "guild_name": "Acme" }),
        take: None,
        gone: Some(Fault::status(403, r#"{"message":"Missing Access","code":50001}"#)),
    }
}

pub fn hubspot() -> Consent<hubspot::Tables> {
    let scopes = "oauth crm.objects.contacts.read crm.objects.contacts.write crm.schemas.contacts.read crm.lists.read crm.lists.write";
    Consent {
        story: accounts::hubspot(),
        hosts: &["app.hubspot.com"],
        paths: ["/oauth/authorize", "/oauth/2026-03/token"],
        traits: Traits { refreshes: true, life_s: Some(1_800), scope: Some(scopes), ..PLAIN },
        tells: |_| json!({ "hub_id": 62_515, "user_id": 7 }),
        metadata: json!({}),
        knows: json!({ "hub_id": "62515" }),
        take: Some(|tables, token| tables.token = token),
        gone: None,
    }
}

pub fn intercom() -> Consent<intercom::Tables> {
    let revoked = intercom::error("token_revoked", "Token revoked");
    Consent {
        story: accounts::intercom(),
        hosts: &["app.intercom.com"],
        paths: ["/oauth", "/auth/eagle/token"],
        traits: PLAIN,
        tells: |_| json!({ "token": intercom::TOKEN }),
        metadata: json!({}),
        knows: json!({ "region": "us", "app_id": "abcd1234", "admin_id": "814860" }),
        take: Some(|tables, token| tables.token = token),
        gone: Some(Fault::status(401, &revoked.to_string())),
    }
}

pub fn mailchimp() -> Consent<mailchimp::Tables> {
    Consent {
        story: accounts::mailchimp(),
        hosts: &["login.mailchimp.com", "us6.api.mailchimp.com"],
        paths: ["/oauth2/authorize", "/oauth2/token"],
        traits: Traits { life_s: Some(0), ..PLAIN },
        tells: |_| json!({}),
        metadata: json!({}),
        knows: json!({ "data_center": "us6", "account_id": "4242" }),
        take: Some(|tables, token| tables.key = token),
        gone: None,
    }
}

pub fn pipedrive() -> Consent<pipedrive::Tables> {
    Consent {
        story: accounts::pipedrive(),
        hosts: &["oauth.pipedrive.com"],
        paths: ["/oauth/authorize", "/oauth/token"],
        traits: Traits { is_basic: true, refreshes: true, rotates: true, life_s: Some(3_599), ..PLAIN },
        tells: |url| json!({ "api_domain": url, "scope": "base,contacts:full" }),
        metadata: json!({}),
        knows: json!({ "company_id": "54235233", "user_id": "1" }),
        take: Some(|tables, token| tables.token = token),
        gone: None,
    }
}

/// Its tokens do not say when they end.
pub fn salesforce() -> Consent<salesforce::Tables> {
    Consent {
        story: accounts::salesforce(),
        hosts: &["login.salesforce.com"],
        paths: ["/services/oauth2/authorize", "/services/oauth2/token"],
        traits: Traits { wants_proof: true, refreshes: true, scope: Some("api refresh_token"), ..PLAIN },
        tells: |url| json!({ "instance_url": url, "id": "https://login.salesforce.com/id/00D1/0051", "issued_at": "1708058728442" }),
        metadata: json!({}),
        knows: json!({ "org_id": "00D1", "user_id": "0051" }),
        take: Some(|tables, token| tables.token = token),
        gone: None,
    }
}

pub fn slack() -> Consent<slack::Tables> {
    Consent {
        story: accounts::slack(),
        hosts: &[],
        paths: ["/oauth/v2/authorize", "/api/oauth.v2.access"],
        traits: Traits {
            is_basic: true,
            errs_with_200: true,
            scope: Some("chat:write,chat:write.public,channels:read,groups:read,users:read,users:read.email"),
            ..PLAIN
        },
        tells: |_| json!({ "token_type": "bot", "team": { "id": "T1", "name": "Acme" }, "bot_user_id": "U1" }),
        metadata: json!({}),
        knows: json!({ "team_id": "T1", "team_name": "Acme" }),
        take: Some(|tables, token| tables.token = token),
        gone: Some(Fault::status(200, r#"{"ok":false,"error":"token_revoked"}"#)),
    }
}

pub fn zoom() -> Consent<zoom::Tables> {
    Consent {
        story: accounts::zoom(),
        hosts: &["zoom.us"],
        paths: ["/oauth/authorize", "/oauth/token"],
        traits: Traits {
            is_basic: true,
            wants_proof: true,
            refreshes: true,
            rotates: true,
            life_s: Some(3_600),
            ..PLAIN
        },
        tells: |_| json!({}),
        metadata: json!({}),
        knows: json!({ "user_id": "KDcuGIm1QgePTO8WbOqwIQ", "account_id": "EAAAbbbbbCCCCHMA" }),
        take: Some(|tables, token| tables.token = token),
        gone: None,
    }
}
