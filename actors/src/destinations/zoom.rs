//! Zoom: registrants of meetings and webinars.
//!
//! API v2: <https://developers.zoom.us/docs/api/meetings/#tag/meetings/POST/meetings/{meetingId}/registrants>. Its own
//! `code` says more than the status. A registrant who is added again is the same one, but only a few times a day, and
//! that limit is theirs alone; every other limit is the account's. A day's limit ends at midnight UTC.

use super::{
    SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::{collections::HashSet, time::Duration};

pub struct Zoom;

const API: &str = "https://api.zoom.us/v2";

const MEETING: Input = Input::pick("meetings", "Meeting");
const WEBINAR: Input = Input { key: "webinars", label: "Webinar", ..MEETING };
const ADD_NEEDS: &[&str] = &["email", "first_name"];
const ADD_TWICE: &str =
    "The registration stays one; Zoom takes the same person about three times a day and may write again.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "zoom",
    name: "Zoom",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Of an app of your own; it ends after an hour. Not needed when the account is connected in a browser."), ..Field::secret("access_token", "Access token") },
        Field { help: Some("Filled in by Zoom."), ..Field::text("user_id", "User id") },
        Field { help: Some("Filled in by Zoom."), ..Field::text("account_id", "Account id") },
    ],
    actions: &[
        ActionSpec { key: "add_meeting_registrant",    label: "Add meeting registrant",    noun: "meeting", description: "Registers the person for a meeting.",              inputs: &[MEETING], needs: ADD_NEEDS,  twice: ADD_TWICE },
        ActionSpec { key: "add_webinar_registrant",    label: "Add webinar registrant",    noun: "webinar", description: "Registers the person for a webinar.",              inputs: &[WEBINAR], needs: ADD_NEEDS,  twice: ADD_TWICE },
        ActionSpec { key: "cancel_meeting_registrant", label: "Cancel meeting registrant", noun: "meeting", description: "Cancels the person's registration for a meeting.", inputs: &[MEETING], needs: &["email"], twice: "It is cancelled already." },
    ],
    consent: Some(&Consent {
        authorize: "https://zoom.us/oauth/authorize",
        token: "https://zoom.us/oauth/token",
        login: None,
        scopes: &[],
        separator: ' ',
        client: ClientAuth::Basic,
        pkce: true,
        params: &[],
    }),
};

/// Of an account, whichever app asks.
const PACE: Pace = Pace::of(10, Duration::from_secs(1), 4);
/// Of one person at one meeting: what repeats comes one after the other.
const REGISTRANT_PACE: Pace = Pace::of(3, Duration::from_secs(3), 1);
const REST: Duration = Duration::from_secs(1);
const DAY_MS: u64 = 86_400_000;
const PAGE: &str = "300";
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 50;
/// Meetings, and webinars, whose own questions are read, at most.
const ASKED_MAX: usize = 10;
const EMAIL_CHARS_MAX: usize = 128;
const NAME_CHARS_MAX: usize = 64;
/// Before the title of a meeting's own question.
const QUESTION: &str = "custom_questions.";
/// What a registrant has beside name and address, with its label.
const TEXTS: [(&str, &str); 10] = [
    ("phone", "Phone"),
    ("org", "Organization"),
    ("job_title", "Job title"),
    ("industry", "Industry"),
    ("address", "Address"),
    ("city", "City"),
    ("state", "State or province"),
    ("zip", "Zip or postal code"),
    ("country", "Country (two letters)"),
    ("comments", "Questions and comments"),
];
const TIME_FRAMES: [&str; 5] =
    ["Within a month", "1-3 months", "4-6 months", "More than 6 months", "No timeframe"];
const ROLES: [&str; 4] = ["Decision Maker", "Evaluator/Recommender", "Influencer", "Not involved"];

#[async_trait]
impl Service for Zoom {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let entry = Entry::bearer(setup, "access_token")?;
        let name = match (setup.text("account_id"), setup.text("user_id")) {
            (Some(id), _) => id.to_owned(),
            (None, Some(id)) => format!("user/{id}"),
            (None, None) => format!("token/{}", tail_of(setup.text("access_token").unwrap_or_default())),
        };
        Ok(Account { base: API.to_owned(), entry, headers: Vec::new(), name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let code = answer.text("/code").unwrap_or_default();
        let lacks_scope = matches!(&code[..], "4700" | "4711") || answer.says("does not contain scopes");
        match answer.status {
            400..=403 if lacks_scope => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
            // Who is no registrant needs no cancelling.
            404 if code != "3001" && answer.says("registrant") => Verdict::Fine,
            409 if answer.says("already") => Verdict::Fine,
            429 => too_many(answer),
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/users/me").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let (email, id) = (work.required("email")?, number(work)?);
        fits("email", &email, EMAIL_CHARS_MAX)?;
        let part = format!("registrant/{id}/{}", email.to_ascii_lowercase());
        if work.action == "cancel_meeting_registrant" {
            let body = json!({ "action": "cancel", "registrants": [{ "email": email }] });
            let call = api.put(format!("/meetings/{id}/registrants/status")).json(&body);
            return call.part(part, REGISTRANT_PACE).send().await.map(drop);
        }
        let kind = if work.action == "add_webinar_registrant" { "webinars" } else { "meetings" };
        let call = api.post(format!("/{kind}/{id}/registrants")).json(&registrant(work, &email)?);
        call.part(part, REGISTRANT_PACE).once().send().await.map(drop)
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        let mut seen = HashSet::new();
        let item = |found: &Value| {
            let id = text_at(found, "/id")?;
            let topic = text_at(found, "/topic").unwrap_or_else(|| id.clone());
            let name = match text_at(found, "/start_time") {
                Some(start) => format!("{topic} ({start})"),
                None => topic,
            };
            Some(Item { id, name, options: Vec::new() })
        };
        let items = all(api, key, PAGES_MAX).await?.iter().filter_map(item).collect::<Vec<_>>();
        // One that recurs is listed once for each time.
        Ok(items.into_iter().filter(|item| seen.insert(item.id.clone())).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, constraints| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: None,
            constraints,
        };
        let most = |most: usize, required| {
            let required = if required { Some(true) } else { None };
            Some(Constraints { max_length: Some(most as u64), required, ..Constraints::default() })
        };
        let choice = |key: &str, label: &str, values: &[&str]| {
            let allowed_values = Some(values.iter().map(|value| (*value).to_owned()).collect());
            let constraints = Constraints { allowed_values, ..Constraints::default() };
            CatalogField { kind: CatalogFieldKind::Enum, ..field(key, label, Some(constraints)) }
        };
        let mut fields = vec![
            field("email", "E-mail", most(EMAIL_CHARS_MAX, true)),
            field("first_name", "First name", most(NAME_CHARS_MAX, true)),
            field("last_name", "Last name", most(NAME_CHARS_MAX, false)),
        ];
        if let Some(email) = &mut fields[0].constraints {
            email.format = Some(Format::Email);
        }
        fields.extend(TEXTS.iter().map(|(key, label)| field(key, label, None)));
        fields.push(choice("purchasing_time_frame", "Purchasing time frame", &TIME_FRAMES));
        fields.push(choice("role_in_purchase_process", "Role in purchase process", &ROLES));
        let employees = field("no_of_employees", "Number of employees", None);
        fields.push(CatalogField {
            description: Some("One of Zoom's ranges, such as 1-20.".to_owned()),
            ..employees
        });
        fields
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = self.standard_fields();
        let mut known: HashSet<String> = fields.iter().map(|field| field.key.clone()).collect();
        for kind in ["meetings", "webinars"] {
            // Without webinars, or without leave to look, the standard ones are all there is.
            let Ok(found) = all(api, kind, 1).await else { continue };
            let mut ids: Vec<_> = found.iter().filter_map(|found| text_at(found, "/id")).collect();
            ids.dedup();
            for id in ids.iter().take(ASKED_MAX) {
                let call = api.get(format!("/{kind}/{id}/registrants/questions")).fine(&[400, 401, 403, 404]);
                let answer = call.send().await?;
                let questions = answer.list("/custom_questions").iter().filter_map(question);
                fields.extend(questions.filter(|field| known.insert(field.key.clone())));
            }
        }
        Ok(fields)
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let answer = api.get("/users/me").send().await?;
        let places = [("user_id", "/id"), ("account_id", "/account_id")];
        Ok(places
            .iter()
            .filter_map(|(key, place)| Some(((*key).to_owned(), answer.text(place)?.into())))
            .collect())
    }
}

/// A second's limit, or a day's; a person's own, or the account's.
fn too_many(answer: &Answer) -> Verdict {
    let kind = answer.header("x-ratelimit-type").unwrap_or_default().to_ascii_lowercase();
    let is_daily = match kind.is_empty() {
        true => answer.says("daily") || answer.says("GMT 00:00:00"),
        false => kind.contains("daily"),
    };
    let over = match kind.is_empty() && answer.says("registrant") {
        true => Over::Part,
        false => Over::Account,
    };
    let midnight = answer.at.map(|at| Duration::from_millis(DAY_MS - at.as_unsigned() % DAY_MS));
    let wait = if is_daily && answer.header("retry-after").is_none() { midnight } else { None };
    Verdict::Slower { wait, over }
}

/// The meeting's or webinar's number, with the blanks it is often written with, or as a JSON number.
fn number(work: &Work<'_>) -> Result<String, Stop> {
    let written = work.inputs.get("id").and_then(|id| text_at(id, "")).unwrap_or_default();
    if written.is_empty() {
        return Err(Stop::mapping("the rule's id is missing: edit the rule"));
    }
    let number: String = written.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    match !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(number),
        false => Err(Stop::mapping("the rule's id is no meeting's or webinar's number: edit the rule")),
    }
}

fn fits(field: &str, text: &str, chars_max: usize) -> Result<(), Stop> {
    if text.chars().count() <= chars_max {
        return Ok(());
    }
    Err(Stop::mapping(format!("{field} has more than {chars_max} characters: Zoom takes no longer one")))
}

fn registrant(work: &Work<'_>, email: &str) -> Result<Value, Stop> {
    let first_name = work.required("first_name")?;
    // Accounts of old want one, whatever it is.
    let last_name = work.text("last_name").unwrap_or_else(|| "-".to_owned());
    fits("first_name", &first_name, NAME_CHARS_MAX)?;
    fits("last_name", &last_name, NAME_CHARS_MAX)?;
    let mut body = json!({ "email": email, "first_name": first_name, "last_name": last_name });
    let mut questions = Vec::new();
    for (field, value) in work.fields.iter() {
        let Some(text) = many_or_one(value).filter(|text| !text.is_empty()) else { continue };
        match field.strip_prefix(QUESTION) {
            Some(title) => questions.push(json!({ "title": title, "value": text })),
            None if body.get(field).is_none() => body[field] = text.into(),
            None => {}
        }
    }
    if !questions.is_empty() {
        body["custom_questions"] = questions.into();
    }
    Ok(body)
}

/// Several values go as one text.
fn many_or_one(value: &Json<'_>) -> Option<String> {
    match value {
        Json::Array(items) => Some(items.iter().filter_map(text_of).collect::<Vec<_>>().join(", ")),
        value => text_of(value),
    }
}

/// A question that a meeting asks beside the standard ones.
fn question(found: &Value) -> Option<CatalogField> {
    let title = text_at(found, "/title").filter(|title| !title.is_empty())?;
    let answers = found.get("answers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let allowed: Vec<String> = answers.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let kind = match (allowed.is_empty(), text_at(found, "/type").as_deref()) {
        (true, _) => CatalogFieldKind::String,
        (false, Some("multiple")) => CatalogFieldKind::MultiEnum,
        (false, _) => CatalogFieldKind::Enum,
    };
    let constraints = (!allowed.is_empty())
        .then(|| Constraints { allowed_values: Some(allowed), ..Constraints::default() });
    Some(CatalogField {
        key: format!("{QUESTION}{title}"),
        label: Some(title),
        kind,
        description: None,
        constraints,
    })
}

/// The account's meetings or webinars, page by page.
async fn all(api: &Api<'_>, kind: &str, pages_max: usize) -> Result<Vec<Value>, Stop> {
    let (mut found, mut next) = (Vec::new(), String::new());
    for _ in 0..pages_max {
        let mut call = api.get(format!("/users/me/{kind}"));
        if kind == "meetings" {
            call = call.query("type", "upcoming");
        }
        call = call.query("page_size", PAGE);
        if !next.is_empty() {
            call = call.query("next_page_token", &next[..]);
        }
        let answer = call.send().await?;
        found.extend_from_slice(answer.list(&format!("/{kind}")));
        next = answer.text("/next_page_token").unwrap_or_default();
        if next.is_empty() {
            break;
        }
    }
    Ok(found)
}
