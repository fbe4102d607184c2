//! The command line: what each command takes, and what the short ones do. Those that ask a server
//! something are in a table of their own.

pub mod actions;
mod client;
mod show;
mod stdio;
mod twins;

use self::client::{Client, Keys, Reach};
use crate::{
    Error, api, auth,
    config::{Config, LogFormat, NameServer, RetrySchedule},
    dev, engine_options,
    master_key::{self, MasterKey},
    serve, telemetry,
};
use actors::{
    clock::Clock,
    domain::{audit::Actor, ids::OrganizationId, session::Role, user::email},
    engine::{Engine, NewInvitation, Options, Verification},
};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use ipnet::IpNet;
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// What a process answers when it was told something it cannot do.
const EXIT_WRONG: u8 = 2;

#[derive(Parser)]
#[command(
    name = "weft",
    version,
    about = "Emit an event once; Weft delivers it everywhere it has to go.",
    after_help = "New here? Run `weft dev` and paste the line it prints."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try Weft: start everything from nothing, with a receiver that prints what is delivered
    ///
    /// Makes an organization, a workspace with a publishable key, a webhook connection to a
    /// built-in receiver and a rule for contact.created, then prints one line to paste.
    Dev(DevArgs),
    /// Run the server
    ///
    /// Without flags it keeps its data in ./weft-data and listens on 127.0.0.1:4100. Every
    /// setting is explained in config/default.toml, and each is a WEFT_… variable too.
    Serve(ServeArgs),
    /// Make organizations, each with a machine key and a workspace, and print their keys once
    ///
    /// The server must not be running on the same data. Secret keys are not shown again.
    Init(InitArgs),
    /// Prove the ledger: every accepted event is delivered, given up or scheduled, for every rule
    ///
    /// The server must not be running on the same data. Exits with 1 and a list if anything is amiss.
    Verify(VerifyArgs),
    /// Go on without records that are damaged, when the server refuses to start because of them
    ///
    /// Keep a copy of the data directory first: what is set aside was acknowledged, and is lost to
    /// the server. Copies of the damaged files stay beside it. The server must not be running on the
    /// same data.
    Repair(RepairArgs),
    /// Print a machine token for the API, good for a minute
    ///
    /// For example: curl -H "Authorization: Bearer $(weft token)" http://127.0.0.1:4100/api/v1/workspaces
    Token(TokenArgs),
    /// Print the API's description: OpenAPI 3.1, as the server has it at /openapi.json
    Openapi,
    /// Offer a server's tools on standard input and output, by the Model Context Protocol
    ///
    /// For clients that start their servers as processes. Others ask the server itself, at /mcp.
    Mcp(Reach),
    /// Print a script that completes commands and flags in a shell
    ///
    /// For example: weft completions bash > /etc/bash_completion.d/weft
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

/// Where configuration and data are.
#[derive(Args, Clone, Debug, Default)]
struct Place {
    /// A file with settings, as config/default.toml explains them
    #[arg(long, value_name = "FILE", env = "WEFT_CONFIG")]
    config: Option<PathBuf>,
    /// The directory with everything Weft keeps [default: weft-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args)]
struct DevArgs {
    /// Keep the data here, for the next start [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:4100, or any free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Args, Default)]
struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// Where to listen, such as 127.0.0.1:4100; port 0 takes any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Private networks that destinations may be in, such as 10.1.0.0/16,127.0.0.0/8
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    outbound_allow: Option<Vec<IpNet>>,
    /// Deliver to plain http too, not only to https
    #[arg(long)]
    allow_http: bool,
    /// The waits before each further try, such as 10s,30s,2m,10m; 1s*30 repeats
    #[arg(long, value_name = "WAIT,…")]
    retry_schedule: Option<RetrySchedule>,
    /// A name server to ask for destinations instead of the system's, such as 10.0.0.2:53
    #[arg(long, value_name = "ADDR")]
    dns: Option<NameServer>,
}

#[derive(Args)]
struct InitArgs {
    #[command(flatten)]
    place: Place,
    /// How many to make
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    organizations: u32,
    /// Invite the first organization's owner, and print the link; it is good for a week
    ///
    /// The link begins with `public_url`, where browsers reach the server.
    #[arg(long, value_name = "EMAIL", value_parser = email_address)]
    owner_email: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RepairArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct TokenArgs {
    #[command(flatten)]
    keys: Keys,
    /// Seconds it is good for, 1 to 60
    #[arg(long, value_name = "SECONDS", default_value_t = auth::TOKEN_SECONDS_MAX,
        value_parser = clap::value_parser!(i64).range(1..=auth::TOKEN_SECONDS_MAX))]
    ttl: i64,
}

/// All commands, those of the table too.
fn command() -> clap::Command {
    twins::with_commands(Cli::command())
}

/// Does what the command line says. 0: done; 1: verified and found amiss, or a server refused or could not
/// be asked; 2: could not.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    if let Err(err) = leave_no_core() {
        return wrong(&format!("cannot switch core dumps off: {err}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return wrong(&format!("cannot start: {err}")),
    };
    let done = runtime.block_on(async {
        if let Some((action, matches)) = twins::find(&matches) {
            return Ok(twins::run(action, matches).await.unwrap_or_else(|err| failed(&err.to_string())));
        }
        match Cli::from_arg_matches(&matches).unwrap_or_else(|err| err.exit()).command {
            Command::Dev(args) => dev_config(&args, dev::run).await,
            Command::Serve(args) => run_server(args).await,
            Command::Init(args) => init(args).await,
            Command::Verify(args) => verify(args).await,
            Command::Repair(args) => repair(args).await,
            Command::Token(args) => token(&args),
            Command::Openapi => print_json(&api::openapi::document()).map(|()| ExitCode::SUCCESS),
            Command::Mcp(reach) => stdio::run(Client::new(reach)?).await.map(|()| ExitCode::SUCCESS),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "weft", &mut script);
                twins::print(&script).map(|_| ExitCode::SUCCESS)
            }
        }
    });
    // Not waiting for what may hang in a system call: what matters is on disk.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.unwrap_or_else(|err| wrong(&err.to_string()))
}

/// Memory holds secrets in clear, and a core dump would write them to disk.
fn leave_no_core() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn wrong(why: &str) -> ExitCode {
    failed(why);
    ExitCode::from(EXIT_WRONG)
}

fn failed(why: &str) -> ExitCode {
    eprintln!("weft: {}", why.replace('\n', " "));
    ExitCode::FAILURE
}

impl ServeArgs {
    /// The configuration, with flags over everything else.
    fn config(&self) -> Result<Config, Error> {
        let mut config = Config::load(self.place.config.as_deref())?;
        let Self { place, listen, log_format, outbound_allow, allow_http, retry_schedule, dns } = self;
        set(&mut config.data, place.data.clone());
        set(&mut config.listen, *listen);
        set(&mut config.log_format, *log_format);
        set(&mut config.outbound_allow, outbound_allow.clone());
        set(&mut config.allow_http, allow_http.then_some(true));
        set(&mut config.retry_schedule, retry_schedule.clone());
        set(&mut config.dns, dns.map(Some));
        config.check()?;
        Ok(config)
    }
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

fn master_key(config: &Config) -> Result<MasterKey, Error> {
    let variable = std::env::var("WEFT_MASTER_KEY").ok();
    Ok(master_key::load(variable.as_deref(), &config.master_key_path(), &config.data)?)
}

async fn run_server(args: ServeArgs) -> Result<ExitCode, Error> {
    let config = args.config()?;
    telemetry::log_to_stderr(config.log_format, &config.log).map_err(Error::Told)?;
    let key = master_key(&config)?;
    for network in &config.outbound_allow {
        tracing::warn!(%network, "destinations in this network may be reached");
    }
    let mut asked = end_asked()?;
    let server = tokio::select! {
        served = serve(&config, key, Clock::system()) => served?,
        // While the store is opened nothing was promised to anybody yet.
        () = asked.recv() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(address = %server.address(), data = %config.data.display(), "serving");
    let served = server.serve_until(asked.recv()).await;
    match &served {
        Ok(()) => tracing::info!("shutting down"),
        Err(why) => tracing::error!("{why}"),
    }
    tokio::select! {
        ended = server.shut_down() => ended?,
        () = asked.recv() => {
            tracing::warn!("told twice: ending at once; attempts in flight are repeated after the next start");
            return Ok(ExitCode::from(EXIT_WRONG));
        }
    }
    tracing::info!("ended");
    Ok(served.map_or(ExitCode::from(EXIT_WRONG), |()| ExitCode::SUCCESS))
}

async fn dev_config<F, R>(args: &DevArgs, run: F) -> Result<ExitCode, Error>
where
    F: FnOnce(dev::Setup) -> R,
    R: Future<Output = Result<(), Error>>,
{
    let mut config = Config::defaults();
    set(&mut config.listen, args.listen);
    // Its log would drown the deliveries it prints.
    config.log = "warn".to_owned();
    set(&mut config.log_format, args.log_format);
    telemetry::log_to_stderr(config.log_format, &config.log).map_err(Error::Told)?;
    run(dev::Setup { config, data: args.data.clone(), any_port: args.listen.is_none() }).await?;
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM and Ctrl-C.
pub(crate) struct EndAsked {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// Listens for them from now on: one that comes while the store is being opened is not lost.
pub(crate) fn end_asked() -> Result<EndAsked, Error> {
    let listen = |kind| signal(kind).map_err(|source| Error::Io { what: "signals".into(), source });
    Ok(EndAsked { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
}

impl EndAsked {
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What an engine is started with that is not to run.
fn offline_options(place: &Place) -> Result<Options, Error> {
    let config = ServeArgs { place: place.clone(), ..Default::default() }.config()?;
    telemetry::log_to_stderr(config.log_format, &config.log).map_err(Error::Told)?;
    let key = master_key(&config)?;
    Ok(engine_options(&config, key, Clock::system()))
}

/// The same, of a place where there must be data already.
fn existing_options(place: &Place) -> Result<Options, Error> {
    let config = ServeArgs { place: place.clone(), ..Default::default() }.config()?;
    if !config.data.is_dir() {
        return Err(Error::Told(format!("there is no data at {}", config.data.display())));
    }
    offline_options(place)
}

#[derive(Serialize)]
struct Made {
    orgs: Vec<MadeOrganization>,
}

#[derive(Serialize)]
struct MadeOrganization {
    org_id: OrganizationId,
    access_key: String,
    secret_key: String,
    workspaces: Vec<MadeWorkspace>,
    /// Makes the first owner, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_invitation: Option<String>,
}

#[derive(Serialize)]
struct MadeWorkspace {
    id: actors::domain::ids::WorkspaceId,
    name: String,
    publishable_key: String,
}

async fn init(args: InitArgs) -> Result<ExitCode, Error> {
    let options = offline_options(&args.place)?;
    let config = ServeArgs { place: args.place.clone(), ..Default::default() }.config()?;
    let engine = Engine::offline(options).await?.by(Actor::operator("weft init"));
    let mut made = Made { orgs: Vec::new() };
    for number in 1..=args.organizations {
        let organization = engine.create_organization(&format!("Organization {number}")).await?;
        let key = engine.create_machine_key(organization.id).await?;
        let (workspace, publishable) =
            engine.create_workspace(organization.id, "default".to_owned(), None).await?;
        let mut owner_invitation = None;
        if let Some(email) = args.owner_email.clone().filter(|_| number == 1) {
            let new = NewInvitation { email, role: Role::Owner, created_by: "weft init".to_owned() };
            let (_, token) = engine.invite(organization.id, new).await?;
            owner_invitation = Some(api::invitation_link(&config.public_url(config.listen), &token));
        }
        made.orgs.push(MadeOrganization {
            owner_invitation,
            org_id: organization.id,
            access_key: key.access_key,
            secret_key: key.secret.expose().to_owned(),
            workspaces: vec![MadeWorkspace {
                id: workspace.id,
                name: workspace.name,
                publishable_key: publishable.public_key,
            }],
        });
    }
    engine.drain(Duration::ZERO).await?;
    if args.json {
        print_json(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    for organization in &made.orgs {
        println!("organization     {}", organization.org_id);
        println!("access key       {}", organization.access_key);
        println!("secret key       {}   (not shown again)", organization.secret_key);
        for workspace in &organization.workspaces {
            println!("workspace        {}   {}", workspace.id, workspace.name);
            println!("publishable key  {}", workspace.publishable_key);
        }
        if let Some(link) = &organization.owner_invitation {
            println!("owner's link     {link}   (good once, for a week)");
        }
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: VerifyArgs) -> Result<ExitCode, Error> {
    let engine = Engine::offline(existing_options(&args.place)?).await?;
    let found = engine.verify().await?;
    engine.drain(Duration::ZERO).await?;
    if args.json {
        print_json(&found)?;
    } else {
        print!("{}", report(&found));
    }
    Ok(if found.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn repair(args: RepairArgs) -> Result<ExitCode, Error> {
    let mut options = existing_options(&args.place)?;
    options.accept_damage = true;
    options.progress = Arc::new(|what| println!("{what}"));
    let engine = Engine::offline(options).await?;
    let found = engine.verify().await?;
    engine.drain(Duration::ZERO).await?;
    print!("{}", report(&found));
    println!("the server can be started again");
    Ok(ExitCode::SUCCESS)
}

fn report(found: &Verification) -> String {
    let Verification { events, deliveries, finished, scheduled, unrouted, faults } = found;
    let mut text = format!(
        "events {events}, not routed yet {unrouted}\ndeliveries {deliveries}: {finished} finished, {scheduled} scheduled\n"
    );
    for fault in faults {
        text.push_str(&format!("fault: {fault}\n"));
    }
    text.push_str(if faults.is_empty() { "nothing is amiss\n" } else { "the ledger does not add up\n" });
    text
}

fn token(args: &TokenArgs) -> Result<ExitCode, Error> {
    println!("{}", args.keys.token(args.ttl));
    Ok(ExitCode::SUCCESS)
}

fn email_address(text: &str) -> Result<String, String> {
    email(text).ok_or_else(|| "not an e-mail address such as ada@example.com".to_owned())
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|err| Error::Told(err.to_string()))?;
    println!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve_args(words: &[&str]) -> Result<ServeArgs, clap::Error> {
        let words = ["weft", "serve"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Serve(args) => Ok(args),
            _ => unreachable!("the command is serve"),
        }
    }

    #[test]
    fn the_commands_are_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_go_over_defaults() {
        #[rustfmt::skip]
        let args = serve_args(&[
            "--data", "/srv/weft", "--listen", "0.0.0.0:80", "--log-format", "json", "--allow-http",
            "--outbound-allow", "127.0.0.0/8,10.0.0.0/8", "--retry-schedule", "1s*3,2m", "--dns", "10.0.0.2",
        ]);
        let config = args.expect("they are well formed").config().expect("they make a configuration");
        assert_eq!(config.data, PathBuf::from("/srv/weft"));
        assert_eq!(config.master_key_path(), PathBuf::from("/srv/weft.key"));
        assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 80)));
        assert_eq!(config.log_format, LogFormat::Json);
        assert!(config.allow_http);
        assert_eq!(config.outbound_allow.len(), 2);
        assert_eq!(config.retry_schedule.0.len(), 4);
        assert_eq!(config.dns.map(|server| server.0.port()), Some(53));

        let config = serve_args(&[]).expect("nothing is required").config().expect("the defaults work");
        assert!(!config.allow_http && config.outbound_allow.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        #[rustfmt::skip]
        let cases: [&[&str]; 10] = [
            &["serve", "--listen", "here"],
            &["serve", "--outbound-allow", "10.0.0.0/40"],
            &["serve", "--retry-schedule", "soon"],
            &["serve", "--dns", "resolver"],
            &["serve", "--log-format", "xml"],
            &["serve", "--lisen", "127.0.0.1:1"],
            &["init", "--organizations", "0"],
            &["init", "--owner-email", "ada"],
            &["token", "--access-key", "mk_x", "--secret-key", "s", "--org", "7b0e8e55-4c1b-4a39-9d35-0a2d7c1f3c11", "--ttl", "61"],
            &["start"],
        ];
        for words in cases {
            let parsed = Cli::try_parse_from(["weft"].iter().chain(words));
            assert!(parsed.is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_report_lists_faults() {
        let mut found = Verification { events: 3, deliveries: 4, finished: 4, ..Default::default() };
        assert!(report(&found).ends_with("nothing is amiss\n"));
        found.faults.push("event 0192 is lost".into());
        assert!(report(&found).contains("fault: event 0192 is lost\n"));
    }
}
