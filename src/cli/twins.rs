//! The commands that are twins of the API's actions: made of the table, run against a server.

use super::{
    actions::{ACTIONS, Action, Flag, Kind, NOUNS, To, Verb, paths},
    client::{Client, Reach, Refused},
    show,
};
use crate::Error;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, parser::ValueSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};
use url::form_urlencoded;

/// Where what belongs to every action stands in its help.
const COMMON: &str = "Server and credentials";

/// Adds a command for each noun of the table.
pub fn with_commands(command: Command) -> Command {
    NOUNS.iter().fold(command, |command, (noun, about)| {
        let mut whole = Command::new(*noun).about(*about);
        let of_noun = ACTIONS.iter().filter(|action| action.noun == *noun);
        for action in of_noun {
            whole = match action.name.split_once(' ') {
                _ if action.name.is_empty() => arguments(whole, action).about(*about),
                None => with_subcommand(whole, arguments(Command::new(action.name), action)),
                Some((group, name)) => {
                    let own = arguments(Command::new(name), action);
                    let grown = |group: Command| with_subcommand(group, own.clone());
                    if whole.find_subcommand(group).is_some() {
                        whole.mut_subcommand(group, grown)
                    } else {
                        let about = format!("Look at the {noun}'s {group}, or change it");
                        with_subcommand(whole, grown(Command::new(group).about(about)))
                    }
                }
            };
        }
        command.subcommand(whole)
    })
}

fn with_subcommand(command: Command, own: Command) -> Command {
    command.subcommand_required(true).arg_required_else_help(true).subcommand(own)
}

/// The names in a path, in order, and whether each must be given.
fn names(path: &'static str) -> Vec<(&'static str, bool)> {
    let optional = path.find('[').zip(path.find(']'));
    let is_optional = |at: usize| optional.is_some_and(|(start, end)| (start..end).contains(&at));
    let found = path.match_indices('{').filter_map(|(at, _)| {
        let end = path[at..].find('}')?;
        Some((&path[at + 1..at + end], !is_optional(at)))
    });
    found.collect()
}

fn is_argument(action: &Action, name: &str) -> bool {
    name != "workspace" || action.noun == "workspace"
}

fn id_in_path(name: &str) -> String {
    format!("path {name}")
}

fn id_of(flag: &Flag) -> String {
    format!("flag {}", flag.name)
}

fn takes_body(action: &Action) -> bool {
    let from_flags = action.flags.iter().copied().flatten().any(|flag| matches!(flag.to, To::Body(_)));
    from_flags || action.path.ends_with("/bulk")
}

fn arguments(mut command: Command, action: &'static Action) -> Command {
    for (name, is_required) in names(action.path) {
        let shown = name.replace('_', "-").to_uppercase();
        let mut arg = Arg::new(id_in_path(name)).required(is_required).value_name(shown);
        if is_argument(action, name) {
            arg = arg.help(format!("The {}'s id", name.replace('_', " ")));
            if matches!(name, "key" | "access_key") {
                arg = arg.help(if name == "key" { "Its name" } else { "The machine key, mk_…" });
            }
        } else {
            arg = arg.long(name).env("WEFT_WORKSPACE").help("The workspace's id");
        }
        command = command.arg(arg);
    }
    for flag in action.flags.iter().copied().flatten() {
        command = command.arg(argument(flag));
    }
    if takes_body(action) {
        let data = Arg::new("data").long("data").value_name("JSON|@FILE|-");
        let field =
            Arg::new("field").long("field").short('f').value_name("PATH=VALUE").action(ArgAction::Append);
        command = command
            .arg(data.help("The whole body; flags go over it, and - reads standard input"))
            .arg(field.help(
                "A member of the body by its path, as metadata.id=5: JSON where it is that, else text",
            ));
    }
    if action.verb == Verb::List {
        let limit = Arg::new("limit").long("limit").value_name("N").help("How many of a page");
        let cursor = Arg::new("cursor").long("cursor").value_name("CURSOR").help("The page after this one's");
        let all = Arg::new("all").long("all").action(ArgAction::SetTrue).conflicts_with("cursor");
        command = command.arg(limit).arg(cursor).arg(all.help("All pages"));
    }
    if action.verb != Verb::Stream {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
        command = command.arg(json.help("Print the answer as the server gave it"));
    }
    // After them, since they would say what they are themselves about.
    Reach::augment_args(command.next_help_heading(COMMON)).about(action.about)
}

fn argument(flag: &'static Flag) -> Arg {
    let long = flag.name.replace('_', "-");
    let mut arg = Arg::new(id_of(flag)).help(flag.about);
    if flag.is_argument {
        return arg.value_name(long.to_uppercase());
    }
    if flag.name == "workspace" {
        arg = arg.env("WEFT_WORKSPACE");
    }
    let arg = arg.long(long);
    match flag.kind {
        Kind::Text => arg.value_name("TEXT"),
        Kind::Number => {
            arg.value_name("N").value_parser(clap::value_parser!(i64)).allow_negative_numbers(true)
        }
        Kind::Decimal => {
            arg.value_name("N").value_parser(clap::value_parser!(f64)).allow_negative_numbers(true)
        }
        Kind::Boolean => arg.value_name("true|false").value_parser(clap::value_parser!(bool)),
        Kind::Switch => arg.action(ArgAction::SetTrue),
        Kind::Texts => arg.value_name("TEXT,…").value_delimiter(',').action(ArgAction::Append),
        Kind::Json => arg.value_name("JSON|@FILE|-"),
        Kind::Pairs => arg.value_name("PATH=VALUE").action(ArgAction::Append),
    }
}

/// The action that a command line names, with what was said about it.
pub fn find(matches: &ArgMatches) -> Option<(&'static Action, &ArgMatches)> {
    let (noun, mut matches) = matches.subcommand()?;
    let mut words = Vec::new();
    while let Some((word, inner)) = matches.subcommand() {
        words.push(word);
        matches = inner;
    }
    let name = words.join(" ");
    let action = ACTIONS.iter().find(|action| action.noun == noun && action.name == name)?;
    Some((action, matches))
}

/// What is asked of the server.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

/// What is read for `@FILE` and `-`. `Err` says what is wrong with it.
fn read(text: &str) -> Result<String, Error> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(io(file)),
        None if text == "-" => {
            let mut all = String::new();
            std::io::stdin().read_to_string(&mut all).map_err(io("standard input"))?;
            Ok(all)
        }
        None => Ok(text.to_owned()),
    }
}

fn json(name: &str, text: &str) -> Result<Value, Error> {
    let text = read(text)?;
    serde_json::from_str(&text).map_err(|err| Error::Told(format!("--{name}: not JSON: {err}")))
}

fn pair<'t>(name: &str, text: &'t str) -> Result<(&'t str, &'t str), Error> {
    let split = text.split_once('=').filter(|(path, _)| !path.is_empty());
    split.ok_or_else(|| Error::Told(format!("--{name} {text}: must be a path, = and a value")))
}

/// Puts a value at a path, making objects on the way.
fn put(body: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), Error> {
    match path.split_once('.') {
        None => drop(body.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = body.entry(first.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            let inner = inner.as_object_mut();
            put(
                inner.ok_or_else(|| Error::Told(format!("{first} is no object to put {rest} into")))?,
                rest,
                value,
            )?;
        }
    }
    Ok(())
}

fn is_there(body: &Map<String, Value>, path: &str) -> bool {
    match path.split_once('.') {
        None => body.contains_key(path),
        Some((first, rest)) => {
            body.get(first).and_then(Value::as_object).is_some_and(|inner| is_there(inner, rest))
        }
    }
}

fn ask(action: &'static Action, matches: &ArgMatches) -> Result<Asked, Error> {
    let given = |name: &str| matches.get_one::<String>(&id_in_path(name));
    let mut variants = paths(action.path);
    let optional = names(action.path).iter().any(|(name, is_required)| !is_required && given(name).is_some());
    let template = if optional { variants.pop() } else { variants.drain(..1).next() };
    let mut path = format!("/api/v1{}", template.unwrap_or_default());
    for (name, _) in names(action.path) {
        if let Some(value) = given(name) {
            path = path.replace(&format!("{{{name}}}"), &segment(value)?);
        }
    }
    let mut asked = Asked { path, ..Default::default() };
    let data = takes_body(action).then(|| matches.get_one::<String>("data")).flatten();
    let data = data.map(|text| read(text)).transpose()?;
    let mut body = Map::new();
    let mut members = Vec::new();
    // Those with a path go into what those without one have put there.
    let mut flags: Vec<_> = action.flags.iter().copied().flatten().collect();
    flags.sort_by_key(|flag| matches!(flag.to, To::Body(path) if path.contains('.')));
    for flag in flags {
        let source = matches.value_source(&id_of(flag));
        if flag.kind == Kind::Pairs {
            for text in matches.get_many::<String>(&id_of(flag)).into_iter().flatten() {
                let (name, value) = pair(flag.name, text)?;
                let To::Query(before) = flag.to else { continue };
                asked.query.push((format!("{before}{name}"), value.to_owned()));
            }
            continue;
        }
        let Some(value) = value(flag, matches)? else { continue };
        match flag.to {
            To::Query(name) => asked.query.push((name.to_owned(), text_of(&value))),
            To::Header(name) => asked.headers.push((name, text_of(&value))),
            To::Body(path) => {
                members.push((path.to_owned(), value, source == Some(ValueSource::EnvVariable)))
            }
        }
    }
    if takes_body(action) {
        for text in matches.get_many::<String>("field").into_iter().flatten() {
            let (path, value) = pair("field", text)?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            members.push((path.to_owned(), value, false));
        }
    }
    if action.verb == Verb::List {
        for name in ["limit", "cursor"] {
            asked.query.extend(matches.get_one::<String>(name).map(|value| (name.to_owned(), value.clone())));
        }
    }
    asked.body = match (data, members.is_empty()) {
        (None, true) => None,
        // As it is, to the digit.
        (Some(data), true) => Some(data),
        (data, false) => {
            if let Some(data) = data {
                let parsed: Value = serde_json::from_str(&data)
                    .map_err(|err| Error::Told(format!("--data: not JSON: {err}")))?;
                let Value::Object(parsed) = parsed else {
                    return Err(Error::Told("--data: must be an object to put flags into".to_owned()));
                };
                body = parsed;
            }
            for (path, value, is_from_environment) in members {
                if !is_from_environment || !is_there(&body, &path) {
                    put(&mut body, &path, value)?;
                }
            }
            Some(Value::Object(body).to_string())
        }
    };
    Ok(asked)
}

/// What a flag that takes one value says, if anything.
fn value(flag: &Flag, matches: &ArgMatches) -> Result<Option<Value>, Error> {
    let id = id_of(flag);
    let text = || matches.get_one::<String>(&id);
    Ok(match flag.kind {
        Kind::Text => text().map(|text| text.as_str().into()),
        Kind::Number => matches.get_one::<i64>(&id).map(|number| (*number).into()),
        Kind::Decimal => matches.get_one::<f64>(&id).map(|number| (*number).into()),
        Kind::Boolean => matches.get_one::<bool>(&id).map(|is| (*is).into()),
        Kind::Switch => matches.get_flag(&id).then_some(true.into()),
        Kind::Texts => matches.get_many::<String>(&id).map(|texts| texts.cloned().collect::<Vec<_>>().into()),
        Kind::Json => text().map(|text| json(&flag.name.replace('_', "-"), text)).transpose()?,
        Kind::Pairs => None,
    })
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A part of a path, with nothing in it that would make another path of it.
fn segment(text: &str) -> Result<String, Error> {
    if matches!(text, "" | "." | "..") {
        return Err(Error::Told(format!("\"{text}\" is the id of nothing")));
    }
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~:.".contains(&byte);
    let spelled = |byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Ok(text.bytes().map(spelled).collect())
}

/// Asks the server, prints what it says, and answers 1 where it refuses.
pub async fn run(action: &'static Action, matches: &ArgMatches) -> Result<ExitCode, Error> {
    let asked = ask(action, matches)?;
    let reach = Reach::from_arg_matches(matches).map_err(|err| Error::Told(err.to_string()))?;
    let client = Client::new(reach)?;
    let done = match action.verb {
        Verb::Stream => stream(&client, &asked).await?,
        Verb::List if matches.get_flag("all") => pages(&client, asked).await?,
        verb => once(&client, verb, &asked).await?,
    };
    match done {
        Err(refused) => {
            eprintln!("weft: {refused}");
            Ok(ExitCode::FAILURE)
        }
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(body)) if matches.get_flag("json") => {
            print(format!("{}\n", body.trim_end()).as_bytes())?;
            Ok(code(&body))
        }
        Ok(Some(body)) => {
            let answer: Value = serde_json::from_str(&body).map_err(|_| not_ours())?;
            print(show::shown(&answer, action.columns).as_bytes())?;
            if let Some(next) = answer["next_cursor"].as_str() {
                eprintln!("there are more: --all, or --cursor {}", show::plain(next));
            }
            Ok(code(&body))
        }
    }
}

fn not_ours() -> Error {
    Error::Told("the answer is not JSON: is it a Weft that answers there?".to_owned())
}

/// 1 where some of what was sent was refused.
fn code(body: &str) -> ExitCode {
    #[derive(Deserialize)]
    struct Bulk {
        error_count: u64,
        count: u64,
    }
    match serde_json::from_str::<Bulk>(body) {
        Ok(Bulk { error_count, count }) if error_count > 0 => {
            eprintln!("weft: {error_count} of {count} were refused");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints. `false`: nobody reads on, which is no fault.
pub fn print(text: &[u8]) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::Io { what: "standard output".to_owned(), source }),
    }
}

type Answered = Result<Option<String>, Refused>;

fn request(client: &Client, method: &str, asked: &Asked) -> reqwest::RequestBuilder {
    let mut target = asked.path.clone();
    if !asked.query.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&asked.query).finish();
        target = format!("{target}?{query}");
    }
    let mut request = client.request(method, &target);
    for (name, value) in &asked.headers {
        request = request.header(*name, value);
    }
    if method != "GET" {
        request = request.header("content-type", "application/json");
    }
    match &asked.body {
        Some(body) => request.body(body.clone()),
        None => request,
    }
}

async fn once(client: &Client, verb: Verb, asked: &Asked) -> Result<Answered, Error> {
    let response = client.send(request(client, verb.method(), asked)).await?;
    let status = response.status();
    let body = client.text(response).await?;
    let refused = || Refused { status: status.as_u16(), body: body.clone() };
    Ok(if status.is_success() { Ok(Some(body)) } else { Err(refused()) })
}

/// A list's envelope, its records as they came.
#[derive(Deserialize, Serialize)]
struct Page {
    count: usize,
    limit: u64,
    next_cursor: Option<String>,
    records: Vec<Box<RawValue>>,
}

/// All pages as one.
async fn pages(client: &Client, mut asked: Asked) -> Result<Answered, Error> {
    let mut whole: Option<Page> = None;
    loop {
        let body = match once(client, Verb::List, &asked).await? {
            Ok(body) => body.unwrap_or_default(),
            Err(refused) => return Ok(Err(refused)),
        };
        let page: Page = serde_json::from_str(&body).map_err(|_| not_ours())?;
        let next = page.next_cursor.clone();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                whole.records.extend(page.records);
                (whole.count, whole.next_cursor) = (whole.records.len(), None);
            }
        }
        let Some(next) = next else { break };
        asked.query.retain(|(name, _)| name != "cursor");
        asked.query.push(("cursor".to_owned(), next));
    }
    serde_json::to_string(&whole).map(|whole| Ok(Some(whole))).map_err(|_| not_ours())
}

/// Passes lines on as they come. What went wrong on the way is the last line, an object with a message alone.
async fn stream(client: &Client, asked: &Asked) -> Result<Answered, Error> {
    let mut response = client.send(request(client, "GET", asked)).await?;
    let status = response.status();
    if !status.is_success() {
        let body = client.text(response).await?;
        return Ok(Err(Refused { status: status.as_u16(), body }));
    }
    // The line that is coming in, or the last one that came.
    let mut last = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|err| client.broken(&err))? {
        if !print(&piece)? {
            return Ok(Ok(None));
        }
        last.extend_from_slice(&piece);
        let end = last.len() - usize::from(last.ends_with(b"\n"));
        if let Some(at) = last[..end].iter().rposition(|byte| *byte == b'\n') {
            last.drain(..=at);
        }
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ended {
        message: String,
    }
    match serde_json::from_slice::<Ended>(&last) {
        Ok(Ended { message }) => {
            let body = serde_json::json!({ "message": format!("the export ended early: {message}") });
            Ok(Err(Refused { status: 503, body: body.to_string() }))
        }
        Err(_) => Ok(Ok(None)),
    }
}
