//! The pages in `docs/destinations`: what of them follows from a declaration is written by it.
//!
//! It stands between `<!-- generated: PART -->` and `<!-- /generated -->`; `UPDATE_DOCS=1` writes it anew.

use actors::{
    destinations::{
        ALL, Destination,
        spec::{ActionSpec, Auth, Field, FieldKind, InputKind, Spec},
    },
    domain::catalog::CatalogField,
    transport::address::AddressPolicy,
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

const END: &str = "<!-- /generated -->";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/destinations")
}

/// Each part by its name.
fn parts(destination: &dyn Destination) -> Vec<(&'static str, String)> {
    let spec = destination.spec();
    let fields = destination.standard_fields();
    let connect = settings(spec) + &connecting(destination);
    let mut parts = vec![("settings", connect), ("actions", actions(spec) + &ruling(spec))];
    if !fields.is_empty() {
        parts.push(("fields", standard_fields(&fields)));
    }
    parts
}

fn settings(spec: &Spec) -> String {
    let mut text = "| setting | what it is | |\n| --- | --- | --- |\n".to_owned();
    for field in spec.fields {
        let _ = writeln!(text, "| `{}` | {} | {} |", field.key, field.label, about_setting(field));
    }
    if let Some(consent) = spec.consent {
        let scopes = consent.scopes.join(" ");
        let scopes = match scopes.is_empty() {
            true => "The app's own settings say its scopes.".to_owned(),
            false => format!("It is asked for the scopes `{scopes}`."),
        };
        let kind = spec.kind;
        let _ = write!(
            text,
            "\nIn a browser: the app's redirect URL is `<public_url>/oauth/callback`, and `[oauth.{kind}]` in the\n\
             configuration has its `client_id` and `client_secret`. {scopes} The link that asks for consent comes from\n\
             `weft connection connect --type {kind} --name Ours`.\n"
        );
    }
    text
}

fn about_setting(field: &Field) -> String {
    let mut words = Vec::new();
    let when = |(key, values): (&str, &[&str])| format!("with `{key}` {}", listed(values.iter().copied()));
    words.extend(field.required.then(|| "required".to_owned()));
    words.extend(field.depends_on.map(when));
    words.extend(field.secret.then(|| "secret".to_owned()));
    match field.kind {
        FieldKind::Select(choices) => words.push(listed(choices.iter().map(|choice| choice.value))),
        FieldKind::Toggle => words.push("`true` or `false`".to_owned()),
        FieldKind::Text | FieldKind::Url | FieldKind::Password | FieldKind::Headers | FieldKind::Secrets => {}
    }
    words.extend(field.default.map(|default| format!("`{default}` if not given")));
    let mut about = words.join(", ");
    if let Some(help) = field.help {
        let _ = write!(about, "{}{help}", if about.is_empty() { "" } else { ". " });
    }
    about
}

fn listed<'t>(values: impl Iterator<Item = &'t str>) -> String {
    values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ")
}

fn actions(spec: &Spec) -> String {
    let mut text =
        "| action | what it does | the rule says | must be mapped | done twice |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for action in spec.actions {
        let ActionSpec { key, description, needs, twice, .. } = action;
        let inputs = action.inputs.iter().map(|input| {
            let kept = input.kept_in().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(" and ");
            let how = match input.kind {
                InputKind::Text { .. } => "",
                InputKind::Pick | InputKind::PickOption { .. } => ", picked from the account",
            };
            let optional = if input.required { "" } else { ", optional" };
            format!("{kept}: {}{how}{optional}", input.label)
        });
        let inputs = inputs.collect::<Vec<_>>().join("; ");
        let needs = needs.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{key}` | {description} | {inputs} | {needs} | {twice} |");
    }
    text
}

/// A command that connects it, with settings that are good by its own judgement.
fn connecting(destination: &dyn Destination) -> String {
    let spec = destination.spec();
    let policy = AddressPolicy::default();
    let mut settings = Map::new();
    let has_secret =
        |fields: &Map<String, Value>| spec.secret_fields().any(|field| fields.contains_key(field.key));
    let first = spec.fields.iter().filter(|field| field.required && field.depends_on.is_none());
    first.for_each(|field| drop(settings.insert(field.key.to_owned(), placeholder(field).into())));
    if !has_secret(&settings)
        && spec.auth != Auth::None
        // A webhook of a service's does less than its API.
        && let Some(secret) = spec.secret_fields().find(|field| field.key != "webhook_url")
    {
        settings.insert(secret.key.to_owned(), placeholder(secret).into());
    }
    // What is needed beside these it says itself.
    while let Err(errors) = destination.check(&settings, &policy) {
        let before = settings.len();
        for field in spec.fields.iter().filter(|field| errors.iter().any(|err| err.param == field.key)) {
            settings.insert(field.key.to_owned(), placeholder(field).into());
        }
        assert!(settings.len() > before, "{}: {errors:?} of {settings:?}", spec.kind);
    }
    let settings = Value::Object(settings);
    format!("\n```sh\nweft connection create --type {} --name Ours --metadata '{settings}'\n```\n", spec.kind)
}

fn placeholder(field: &Field) -> &'static str {
    match (field.key, field.kind) {
        ("guild_id", _) => "290926792226357250",
        ("account_id", _) => "123456",
        ("data_center", _) => "us19",
        (_, FieldKind::Url) => "https://acme.example.com",
        (_, FieldKind::Select(choices)) => choices.first().map_or("", |choice| choice.value),
        _ => "YOUR-OWN",
    }
}

/// Commands that tell what there is to pick from, and make a rule.
fn ruling(spec: &Spec) -> String {
    let Some(action) = spec.actions.first() else { return String::new() };
    let mut metadata = json!({ "action": action.key });
    for input in action.inputs.iter().filter(|input| input.required || input.is_live()) {
        let value = match input.kind {
            InputKind::Text { placeholder, .. } => placeholder.unwrap_or("text"),
            InputKind::Pick | InputKind::PickOption { .. } => "PICKED",
        };
        input.kept_in().for_each(|field| metadata[field] = value.into());
    }
    let checked = metadata.as_object().expect("an object");
    assert_eq!(spec.check_action(checked), Ok(()), "{}", spec.kind);
    let picks = action.inputs.iter().any(|input| input.is_live());
    let look = if picks {
        "weft connection actions CONNECTION --json     # what there is to pick from\n"
    } else {
        ""
    };
    format!(
        "\n```sh\n{look}weft rule create --connection CONNECTION --event 'contact.*' --metadata '{metadata}'\n```\n"
    )
}

fn standard_fields(fields: &[CatalogField]) -> String {
    let shown = fields.iter().map(|field| {
        let constraints = field.constraints.as_ref();
        let is_required = constraints.is_some_and(|constraints| constraints.required == Some(true));
        format!("`{}`{}", field.key, if is_required { " (required)" } else { "" })
    });
    format!("Every account has {}.\n", shown.collect::<Vec<_>>().join(", "))
}

/// The page with its generated parts written anew. The error says what it lacks.
fn written(page: &str, parts: &[(&str, String)]) -> Result<String, String> {
    let mut page = page.to_owned();
    for (name, text) in parts {
        let begin = format!("<!-- generated: {name} -->");
        let at = page.find(&begin).ok_or_else(|| format!("lacks {begin}, and {END} below it: add them"))?
            + begin.len();
        let length = page[at..].find(END).ok_or_else(|| format!("lacks {END} after {begin}"))?;
        page.replace_range(at..at + length, &format!("\n{text}"));
    }
    Ok(page)
}

#[test]
fn every_destination_has_its_page_and_it_says_what_is_declared() {
    let is_to_update = std::env::var_os("UPDATE_DOCS").is_some();
    for destination in ALL {
        let kind = destination.spec().kind;
        let path = folder().join(format!("{kind}.md"));
        let page = fs::read_to_string(&path)
            .unwrap_or_else(|err| panic!("write docs/destinations/{kind}.md: {err}"));
        let expected =
            written(&page, &parts(*destination)).unwrap_or_else(|lacks| panic!("{kind}.md {lacks}"));
        if is_to_update && page != expected {
            fs::write(&path, &expected).expect("it is written");
        } else {
            let advice = "is not what is declared: write it anew by UPDATE_DOCS=1 cargo test -p actors --test destinations";
            assert!(page == expected, "{kind}.md {advice}");
        }
        for section in ["## Connect", "## What it does", "## When something fails"] {
            assert!(page.contains(section), "{kind}.md lacks {section}");
        }
    }
    let pages = fs::read_dir(folder()).expect("a folder").map(|file| file.expect("a file").file_name());
    let pages: BTreeSet<_> = pages.map(|name| name.to_string_lossy().into_owned()).collect();
    let kinds: BTreeSet<_> =
        ALL.iter().map(|destination| format!("{}.md", destination.spec().kind)).collect();
    assert_eq!(pages, kinds, "a page for each destination, and no other: write or delete them");
}

/// What is generated is what is compared: a page with another word in it is not taken.
#[test]
fn a_page_that_says_something_else_is_told_apart() {
    let parts = [("a", "one\n".to_owned()), ("b", "two\n".to_owned())];
    let page = "# X\n<!-- generated: a -->\none\n<!-- /generated -->\nby hand\n<!-- generated: b -->\ntwo\n<!-- /generated -->\n";
    assert_eq!(written(page, &parts).as_deref(), Ok(page));
    assert_eq!(written(&page.replace("two", "three"), &parts).as_deref(), Ok(page));
    let lacks = written(&page.replace("generated: b", "generated: c"), &parts);
    assert_eq!(
        lacks,
        Err("lacks <!-- generated: b -->, and <!-- /generated --> below it: add them".to_owned())
    );
}
