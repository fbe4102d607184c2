//! `weft dev`: everything from nothing in one process, and one line to paste.

use crate::{Error, Server, cli::end_asked, config::Config, http, master_key, receiver, serve};
use actors::{
    clock::Clock,
    domain::{
        audit::Actor,
        ids::{ConnectionId, OrganizationId, WorkspaceId},
        key::PublishableKey,
    },
    engine::{ConnectionPatch, Engine, MachineKeyClear, NewConnection, NewRule, RuleFilter, Scope},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const ORGANIZATION: &str = "Development";
const WORKSPACE: &str = "development";
const CONNECTION: &str = "Built-in receiver";
const EVENT: &str = "contact.created";
/// Who made what `weft dev` makes.
const CREATED_BY: &str = "weft dev";

/// What the command line asked for.
pub(crate) struct Setup {
    pub config: Config,
    /// `None`: a temporary directory, gone at the end.
    pub data: Option<PathBuf>,
    /// Another port will do if the default one is taken.
    pub any_port: bool,
}

/// What there is to play with.
struct Playground {
    organization: OrganizationId,
    workspace: WorkspaceId,
    publishable: PublishableKey,
    machine: MachineKeyClear,
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(setup: Setup) -> Result<(), Error> {
    let mut asked = end_asked()?;
    let Setup { mut config, data, any_port } = setup;
    let temporary = if data.is_none() { Some(TemporaryDir::create()?) } else { None };
    config.data = match (&data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(temporary)) => temporary.0.join("data"),
        (None, None) => return Err(Error::Told("no place for the data".into())),
    };
    config.allow_http = true;
    config.outbound_allow = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network")).to_vec();
    if any_port && tokio::net::TcpListener::bind(config.listen).await.is_err() {
        config.listen.set_port(0);
    }

    let clock = Clock::system();
    let variable = std::env::var("WEFT_MASTER_KEY").ok();
    let key = master_key::load(variable.as_deref(), &config.master_key_path(), &config.data)?;
    let listening = receiver::start(clock.clone(), |line| println!("{line}")).await;
    let receiver = listening.map_err(|source| Error::Io { what: "the receiver".into(), source })?;
    let server = serve(&config, key, clock).await?;
    let engine = server.engine().by(Actor::operator("weft dev"));
    let playground = prepare(&engine, &config.data, &receiver).await?;
    print!("{}", welcome(&server, &receiver, &playground, &config.data, temporary.is_some()));

    let served = server.serve_until(asked.recv()).await;
    println!("\nstopping");
    server.shut_down().await?;
    receiver.stop(std::time::Duration::ZERO).await;
    served
}

/// Makes what is missing, and points the connection to where the receiver listens this time.
async fn prepare(engine: &Engine, data: &Path, receiver: &http::Server) -> Result<Playground, Error> {
    let (organization, machine) = organization(engine, data).await?;
    let workspace = workspace(engine, organization).await?;
    let key = engine.publishable_key_of(workspace).await?;
    let publishable = key.ok_or_else(|| Error::Told("the workspace has no publishable key".into()))?;
    let scope = Scope::Workspace(workspace);
    let connection = connection(engine, scope, workspace, receiver).await?;

    let filter = RuleFilter { event: Some(EVENT.into()), ..Default::default() };
    let rules = engine.rules(scope, filter, None, 1_000).await?.records;
    if !rules.iter().any(|rule| rule.connection_id == connection) {
        let new = NewRule {
            workspace_id: workspace,
            connection_id: connection,
            event: EVENT.into(),
            resource: None,
            resource_id: None,
            metadata: object(json!({ "action": "send_webhook" })),
            conditions: None,
            active: true,
            hidden: false,
            created_by: CREATED_BY.into(),
        };
        engine.create_rule(scope, new).await?;
    }
    Ok(Playground { organization, workspace, publishable, machine })
}

/// Whose access key was made at the first start; the secret stays sealed in the store.
#[derive(Serialize, Deserialize)]
struct Note {
    access_key: String,
}

async fn organization(engine: &Engine, data: &Path) -> Result<(OrganizationId, MachineKeyClear), Error> {
    let path = note_path(data);
    let note = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    if let Some(note) = note
        && let Some(machine) = engine.machine_key(&note.access_key).await?
    {
        return Ok((machine.organization_id, machine));
    }
    let existing = engine.organizations(None, 100).await?.records;
    let organization = match existing.into_iter().find(|organization| organization.name == ORGANIZATION) {
        Some(organization) => organization.id,
        None => engine.create_organization(ORGANIZATION).await?.id,
    };
    let machine = engine.create_machine_key(organization).await?;
    let failed = |source| Error::Io { what: path.display().to_string(), source };
    let note = serde_json::to_vec(&Note { access_key: machine.access_key.clone() });
    let note = note.map_err(|err| Error::Told(err.to_string()))?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    io::Write::write_all(&mut &file, &note).map_err(failed)?;
    Ok((organization, machine))
}

/// Beside the data, as the master key is: the data directory belongs to the store.
fn note_path(data: &Path) -> PathBuf {
    let mut beside = data.components().collect::<PathBuf>().into_os_string();
    beside.push(".dev.json");
    beside.into()
}

async fn workspace(engine: &Engine, organization: OrganizationId) -> Result<WorkspaceId, Error> {
    let existing = engine.workspaces(organization, None, 1_000).await?.records;
    match existing.into_iter().find(|workspace| workspace.name == WORKSPACE) {
        Some(workspace) => Ok(workspace.id),
        None => Ok(engine.create_workspace(organization, WORKSPACE.into(), None).await?.0.id),
    }
}

async fn connection(
    engine: &Engine,
    scope: Scope,
    workspace: WorkspaceId,
    receiver: &http::Server,
) -> Result<ConnectionId, Error> {
    // Asked for a name, not tested: the receiver would print the test.
    let url = format!("http://{}/", receiver.address());
    let metadata = object(json!({ "url": url, "skip_test": true }));
    let existing = engine.connections(scope, None, 1_000).await?.records;
    let existing = existing.into_iter().map(|view| view.connection).find(|found| found.name == CONNECTION);
    if let Some(connection) = existing {
        let patch = ConnectionPatch { metadata: Some(metadata), ..Default::default() };
        engine.update_connection(scope, connection.id, patch).await?;
        return Ok(connection.id);
    }
    let new = NewConnection {
        workspace_id: workspace,
        kind: "webhook".into(),
        name: CONNECTION.into(),
        metadata,
        policy: None,
        hidden: false,
        created_by: CREATED_BY.into(),
    };
    Ok(engine.create_connection(scope, new).await?.connection.id)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn welcome(
    server: &Server,
    receiver: &http::Server,
    playground: &Playground,
    data: &Path,
    is_temporary: bool,
) -> String {
    let base = format!("http://{}/api/v1", server.address());
    let program =
        std::env::current_exe().map_or_else(|_| "weft".to_owned(), |path| path.display().to_string());
    let Playground { organization, workspace, publishable, machine } = playground;
    let (access, secret) = (&machine.access_key, machine.secret.expose());
    let fate = if is_temporary { "temporary: gone when you stop; keep it with --data DIR" } else { "kept" };
    format!(
        r#"
Weft is running at http://{address}

  organization      {organization}
  workspace         {workspace}
  publishable key   {publishable}   (may only send events)
  access key        {access}
  secret key        {secret}
  data              {data}   ({fate})
  receiver          http://{receiver}/   (prints each delivery below)

Send an event:

curl -sS {base}/events -H 'X-Meshes-Publishable-Key: {publishable}' -H 'Content-Type: application/json' -d '{{"event":"{EVENT}","payload":{{"email":"ada@example.com","first_name":"Ada"}}}}'

See what became of it (the newest event first; add /ID for one with its deliveries):

curl -sS -H "Authorization: Bearer $(WEFT_ACCESS_KEY={access} WEFT_SECRET_KEY={secret} WEFT_ORG_ID={organization} '{program}' token)" {base}/events

Stop with Ctrl-C.

"#,
        address = server.address(),
        publishable = publishable.public_key,
        data = data.display(),
        receiver = receiver.address(),
    )
}

/// A directory of ours alone, removed with all that is in it when dropped.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn create() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("weft-dev-{}", uuid::Uuid::new_v4().simple()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::Io { what: path.display().to_string(), source })?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // A leftover in the temporary directory is the system's to clear away.
        let _ = fs::remove_dir_all(&self.0);
    }
}
