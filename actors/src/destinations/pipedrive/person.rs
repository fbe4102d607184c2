//! Persons: found or made, and changed.

use super::{SEARCH_PACE, values};
use crate::destinations::service::{Answer, Api, Stop, Work, text_at};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How long it is remembered who has an address. It is looked at again before it is used.
const KNOWN_FOR: Duration = Duration::from_secs(4 * 3_600);
const LABELS_MAX: usize = 100;
/// What an attempt leaves to the next: the person it made.
const MADE: &str = "person";

pub(super) async fn act(api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
    let email = work.required("email")?;
    match work.action {
        "update_person_field" => {
            let (code, value) = (work.input("id")?, work.input("value")?);
            let (place, value) = values::picked(api, code, value).await?;
            let mut body = Map::new();
            match place {
                values::Place::Top => drop(body.insert(code.to_owned(), value)),
                values::Place::Custom => drop(body.insert("custom_fields".into(), json!({ code: value }))),
            }
            let _turn = turn(api, &email).await?;
            match find(api, &email).await? {
                Some(person) => patch(api, &person, body.into()).await.map(drop),
                None => make(api, work, &email, body).await,
            }
        }
        "add_label_to_person" => {
            let label = label(work)?;
            let _turn = turn(api, &email).await?;
            match find(api, &email).await? {
                Some(person) => add_label(api, &person, label).await,
                None => {
                    let body = Map::from_iter([("label_ids".to_owned(), json!([label]))]);
                    make(api, work, &email, body).await
                }
            }
        }
        "remove_label_from_person" => {
            let label = label(work)?;
            let _turn = turn(api, &email).await?;
            match find(api, &email).await? {
                Some(person) => remove_label(api, &person, label).await,
                None => Ok(()),
            }
        }
        _ => {
            // What cannot be is said before the search, which is dear.
            let mapped = values::mapped(api, work).await?;
            let _turn = turn(api, &email).await?;
            match find(api, &email).await? {
                Some(person) => update(api, work, &person, mapped).await,
                None => make_with(api, work, &email, mapped, Map::new()).await,
            }
        }
    }
}

/// Nobody else makes or changes who has this address.
async fn turn(api: &Api<'_>, email: &str) -> Result<OwnedMutexGuard<()>, Stop> {
    api.alone(&format!("person/{}", email.to_lowercase())).await
}

fn label(work: &Work<'_>) -> Result<u64, Stop> {
    let not_one = || Stop::mapping("the rule's label is no label of Pipedrive's: edit the rule");
    work.input("id")?.trim().parse().map_err(|_| not_one())
}

fn known(email: &str) -> String {
    format!("person-id/{}", email.to_lowercase())
}

fn id_of(person: &Value) -> Result<String, Stop> {
    text_at(person, "/id").ok_or_else(|| Stop::odd("pipedrive answered without the person's id"))
}

fn person_of(answer: &Answer) -> Result<Value, Stop> {
    let person = answer.json.get("data").filter(|data| data.is_object()).cloned();
    person.ok_or_else(|| Stop::odd("pipedrive answered without the person"))
}

/// Who has this address, as a whole.
async fn find(api: &Api<'_>, email: &str) -> Result<Option<Value>, Stop> {
    let made = api.kept(MADE).or_else(|| api.recall(&known(email)));
    if let Some(id) = made.and_then(|id| text_at(&id, "")) {
        let answer = api.get(format!("/api/v2/persons/{id}")).fine(&[404, 410]).send().await?;
        if answer.is_success() && is_still(&answer.json["data"], email) {
            return person_of(&answer).map(Some);
        }
        api.forget(&known(email));
    }
    let Some(id) = search(api, email).await? else { return Ok(None) };
    let answer = api.get(format!("/api/v2/persons/{id}")).send().await?;
    api.remember(&known(email), id.to_string(), KNOWN_FOR);
    person_of(&answer).map(Some)
}

fn is_still(person: &Value, email: &str) -> bool {
    let is_gone = person.get("is_deleted") == Some(&Value::Bool(true));
    !is_gone && has(person, "emails", email)
}

/// Whether one of the person's addresses or numbers is this one.
fn has(person: &Value, list: &str, value: &str) -> bool {
    let mut all = person.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice).iter();
    all.any(|one| text_at(one, "/value").is_some_and(|one| one.to_lowercase() == value.to_lowercase()))
}

/// The oldest of those with this very address.
async fn search(api: &Api<'_>, email: &str) -> Result<Option<u64>, Stop> {
    let call = api.get("/api/v2/persons/search").query("term", email).query("fields", "email");
    let answer = call.query("exact_match", "true").part("search", SEARCH_PACE).send().await?;
    let is_it = |found: &&Value| {
        let mut emails = found.pointer("/item/emails").and_then(Value::as_array).into_iter().flatten();
        emails.any(|one| one.as_str().is_some_and(|one| one.to_lowercase() == email.to_lowercase()))
    };
    let found = answer.list("/data/items").iter().filter(is_it);
    Ok(found.filter_map(|found| found.pointer("/item/id").and_then(Value::as_u64)).min())
}

/// A new person with what is mapped, and this beside it.
async fn make(api: &Api<'_>, work: &Work<'_>, email: &str, more: Map<String, Value>) -> Result<(), Stop> {
    let mapped = values::mapped(api, work).await?;
    make_with(api, work, email, mapped, more).await
}

async fn make_with(
    api: &Api<'_>,
    work: &Work<'_>,
    email: &str,
    mapped: values::Mapped,
    more: Map<String, Value>,
) -> Result<(), Stop> {
    let mut body = mapped.body();
    let local = email.split('@').next().unwrap_or(email);
    body.insert("name".to_owned(), name(work).unwrap_or_else(|| local.to_owned()).into());
    body.insert("emails".to_owned(), json!([{ "value": email, "primary": true, "label": "work" }]));
    if let Some(phone) = work.text("phone") {
        body.insert("phones".to_owned(), json!([{ "value": phone, "primary": true, "label": "work" }]));
    }
    for (key, value) in more {
        match (body.get_mut(&key).and_then(Value::as_object_mut), value) {
            (Some(there), Value::Object(value)) => there.extend(value),
            (_, value) => drop(body.insert(key, value)),
        }
    }
    let answer = api.post("/api/v2/persons").json(&Value::Object(body)).once().send().await?;
    let id = id_of(&person_of(&answer)?)?;
    api.keep(MADE, id.clone());
    api.remember(&known(email), id, KNOWN_FOR);
    Ok(())
}

async fn patch(api: &Api<'_>, person: &Value, body: Value) -> Result<Answer, Stop> {
    api.patch(format!("/api/v2/persons/{}", id_of(person)?)).json(&body).send().await
}

/// A list replaces the list there: a number is put behind those that are, and no address is touched.
async fn update(api: &Api<'_>, work: &Work<'_>, person: &Value, mapped: values::Mapped) -> Result<(), Stop> {
    let mut body = mapped.body();
    if let Some(name) = name(work) {
        body.insert("name".to_owned(), name.into());
    }
    if let Some(phone) = work.text("phone").filter(|phone| !has(person, "phones", phone)) {
        let mut phones = person.get("phones").and_then(Value::as_array).cloned().unwrap_or_default();
        phones.push(json!({ "value": phone, "primary": phones.is_empty(), "label": "work" }));
        body.insert("phones".to_owned(), phones.into());
    }
    if body.is_empty() {
        return Ok(());
    }
    patch(api, person, body.into()).await.map(drop)
}

fn name(work: &Work<'_>) -> Option<String> {
    let parts = [work.text("first_name"), work.text("last_name")];
    let whole =
        work.text("name").unwrap_or_else(|| parts.into_iter().flatten().collect::<Vec<_>>().join(" "));
    Some(whole.trim().to_owned()).filter(|name| !name.is_empty())
}

fn labels(person: &Value) -> Vec<u64> {
    let all = person.get("label_ids").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_u64).collect()
}

async fn add_label(api: &Api<'_>, person: &Value, label: u64) -> Result<(), Stop> {
    let mut all = labels(person);
    if all.contains(&label) {
        return Ok(());
    }
    if all.len() >= LABELS_MAX {
        return Err(Stop::refused(format!("the person has {LABELS_MAX} labels, and may have no more")));
    }
    all.push(label);
    let answer = patch(api, person, json!({ "label_ids": all })).await?;
    match answer.json.pointer("/data/label_ids").is_none() || labels(&answer.json["data"]).contains(&label) {
        true => Ok(()),
        false => Err(Stop::odd("pipedrive answered without the label that was put on")),
    }
}

async fn remove_label(api: &Api<'_>, person: &Value, label: u64) -> Result<(), Stop> {
    let mut all = labels(person);
    if !all.contains(&label) {
        return Ok(());
    }
    all.retain(|one| *one != label);
    let path = format!("/api/v2/persons/{}", id_of(person)?);
    if !all.is_empty() {
        return api.patch(path).json(&json!({ "label_ids": all })).fine(&[404, 410]).send().await.map(drop);
    }
    let answer = api.patch(&path).json(&json!({ "label_ids": [] })).fine(&[400, 404, 410]).send().await?;
    if answer.status == 400 {
        // Some fields take nothing as `null` alone.
        let body = json!({ "label_ids": null });
        return api.patch(path).json(&body).fine(&[404, 410]).send().await.map(drop);
    }
    Ok(())
}
