//! The pages in `docs/destinations`: what of them follows from a declaration is written by it.
//!
//! It stands between `<!-- generated: PART -->` and `<!-- /generated -->`; `UPDATE_DOCS=1` writes it anew.

use actors::{
    destinations::{
        ALL, Destination,
        spec::{ActionSpec, Field, FieldKind, InputKind, Spec},
    },
    domain::catalog::CatalogField,
};
use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

const END: &str = "<!-- /generated -->";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/destinations")
}

/// Each part by its name.
fn parts(destination: &dyn Destination) -> Vec<(&'static str, String)> {
    let spec = destination.spec();
    let fields = destination.standard_fields();
    let mut parts = vec![("settings", settings(spec)), ("actions", actions(spec))];
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
             configuration has its `client_id` and `client_secret`. {scopes}\n"
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
        let at = page.find(&begin).ok_or_else(|| format!("lacks {begin}"))? + begin.len();
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
        let page =
            fs::read_to_string(&path).unwrap_or_else(|err| panic!("docs/destinations/{kind}.md: {err}"));
        let expected =
            written(&page, &parts(*destination)).unwrap_or_else(|lacks| panic!("{kind}.md {lacks}"));
        if is_to_update && page != expected {
            fs::write(&path, &expected).expect("it is written");
        } else {
            let advice = "is not what is declared: UPDATE_DOCS=1 cargo test -p actors --test destinations";
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
    assert_eq!(pages, kinds, "a page for each, and no other");
}

/// What is generated is what is compared: a page with another word in it is not taken.
#[test]
fn a_page_that_says_something_else_is_told_apart() {
    let parts = [("a", "one\n".to_owned()), ("b", "two\n".to_owned())];
    let page = "# X\n<!-- generated: a -->\none\n<!-- /generated -->\nby hand\n<!-- generated: b -->\ntwo\n<!-- /generated -->\n";
    assert_eq!(written(page, &parts).as_deref(), Ok(page));
    assert_eq!(written(&page.replace("two", "three"), &parts).as_deref(), Ok(page));
    let lacks = written(&page.replace("generated: b", "generated: c"), &parts);
    assert_eq!(lacks, Err("lacks <!-- generated: b -->".to_owned()));
}
