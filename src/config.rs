//! What an operator can set: `config/default.toml` explains every key.
//!
//! Read once into typed values, later sources over earlier ones: the embedded defaults, a file,
//! `WEFT_…` variables, flags. A key nobody knows is refused: a misspelt limit is no limit.

mod operational_webhook;
mod vendors;

pub use self::{operational_webhook::OperationalWebhook, vendors::Registration};
use actors::{
    domain::{
        ids::OrganizationId,
        payload::BULK_ITEMS_MAX,
        plan::{Plan, Plans},
        retry::{RetryPolicy, WAIT_MAX},
    },
    engine::PAYLOAD_BYTES_MAX,
};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The defaults, as they are documented.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// Variables that begin as settings do, but are read elsewhere.
const NOT_SETTINGS: [&str; 7] =
    ["config", "master_key", "access_key", "secret_key", "org_id", "server", "workspace"];

/// Bytes a journal file may have.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

/// Waits a retry schedule may have.
const WAITS_MAX: usize = 100;

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: PathBuf,
    #[serde(deserialize_with = "optional")]
    pub master_key_file: Option<PathBuf>,
    pub listen: SocketAddr,
    #[serde(deserialize_with = "optional")]
    pub public_url: Option<PublicUrl>,
    pub log_format: LogFormat,
    pub log: String,
    #[serde(deserialize_with = "networks")]
    pub outbound_allow: Vec<IpNet>,
    pub allow_http: bool,
    #[serde(deserialize_with = "parsed")]
    pub retry_schedule: RetrySchedule,
    #[serde(deserialize_with = "optional")]
    pub dns: Option<NameServer>,
    #[serde(deserialize_with = "optional")]
    pub extra_root_pem: Option<PathBuf>,
    /// The plan of organizations that [`Self::plan_of`] does not name.
    #[serde(deserialize_with = "optional")]
    pub plan: Option<String>,
    pub plans: BTreeMap<String, Plan>,
    pub plan_of: BTreeMap<OrganizationId, String>,
    pub http: Http,
    pub ingest: Ingest,
    pub retries: Retries,
    pub auth: Auth,
    pub delivery: Delivery,
    pub store: Store,
    pub shutdown: Shutdown,
    /// By the destination's kind.
    pub oauth: BTreeMap<String, Registration>,
    #[serde(deserialize_with = "vendors::hosts")]
    pub hosts: BTreeMap<String, String>,
    pub operational_webhook: OperationalWebhook,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How long and how much of an HTTP peer is put up with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub connections_max: u32,
    #[serde(deserialize_with = "span")]
    pub header_timeout: Duration,
    #[serde(deserialize_with = "span")]
    pub body_timeout: Duration,
    #[serde(deserialize_with = "span")]
    pub write_timeout: Duration,
    #[serde(deserialize_with = "span")]
    pub idle_timeout: Duration,
    pub body_bytes_max: usize,
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
}

/// How much a workspace may send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    pub payload_bytes_max: usize,
    pub bulk_bytes_max: usize,
    pub events_per_second: u32,
    pub burst: u32,
}

/// How often an organization may ask for retries by hand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    pub per_second: u32,
    pub burst: u32,
}

/// How often an address may be wrong about who it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub failures_per_minute: u32,
    pub failures_burst: u32,
    pub sign_ins_per_minute: u32,
    pub sign_ins_burst: u32,
    pub account_sign_ins_per_hour: u32,
    pub account_sign_ins_burst: u32,
}

/// How destinations are spoken to where a connection's policy says nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    #[serde(deserialize_with = "span")]
    pub timeout: Duration,
    pub max_in_flight: u32,
    pub retry_jitter: f64,
}

/// The embedded store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub segment_bytes: u64,
    pub cache_bytes: u64,
    pub retention_days: u32,
    pub audit_retention_days: u32,
    pub accept_damage: bool,
}

/// How the process ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(deserialize_with = "span")]
    pub unready: Duration,
    #[serde(deserialize_with = "span")]
    pub drain: Duration,
}

/// What is wrong with the configuration, in one line that names the key and where it is set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

impl Config {
    /// Defaults, then the file if there is one, then `WEFT_…` variables.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError(format!("no such file: {}", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // Kubernetes tells every container of a service named `weft` about it: WEFT_PORT, WEFT_SERVICE_HOST.
        let variables = Env::prefixed("WEFT_")
            .ignore(&NOT_SETTINGS)
            .filter(|key| !key.starts_with("port") && !key.starts_with("service_"))
            .filter(|key| !key.starts_with("oauth__"));
        let mut figment = figment.merge(variables.split("__"));
        // As they are: a client id of digits is no number.
        for (name, text) in std::env::vars() {
            if let Some(key) = name.to_ascii_lowercase().strip_prefix("weft_oauth__") {
                let key = format!("oauth.{}", key.replace("__", "."));
                figment = figment.merge(Serialized::default(&key, text));
            }
        }
        figment.extract().map_err(|err| ConfigError(one_line(&err)))
    }

    /// The defaults alone.
    pub fn defaults() -> Self {
        Figment::from(Toml::string(DEFAULTS)).extract().expect("the embedded defaults are tested")
    }

    /// Refuses values that cannot work, naming key and reason.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: &str| Err(ConfigError(text.to_owned()));
        let Self { http, ingest, retries, auth, delivery, store, .. } = self;
        if self.data.as_os_str().is_empty() {
            return refuse("data: names no directory");
        }
        if http.connections_max == 0 {
            return refuse("http.connections_max: must be at least 1");
        }
        let timeouts = [
            ("http.header_timeout", http.header_timeout),
            ("http.body_timeout", http.body_timeout),
            ("http.write_timeout", http.write_timeout),
            ("http.idle_timeout", http.idle_timeout),
            ("delivery.timeout", delivery.timeout),
        ];
        if let Some((key, _)) = timeouts.iter().find(|(_, span)| span.is_zero()) {
            return refuse(&format!("{key}: must be more than 0"));
        }
        if http.idle_timeout < http.header_timeout {
            return refuse("http.idle_timeout: must not be less than http.header_timeout");
        }
        if !(1_024..=PAYLOAD_BYTES_MAX).contains(&ingest.payload_bytes_max) {
            let range = format!("must be from 1024 to {PAYLOAD_BYTES_MAX}");
            return refuse(&format!("ingest.payload_bytes_max: {range}"));
        }
        if ingest.bulk_bytes_max < ingest.payload_bytes_max {
            return refuse("ingest.bulk_bytes_max: must not be less than payload_bytes_max");
        }
        if ingest.events_per_second == 0 {
            return refuse("ingest.events_per_second: must be at least 1");
        }
        if (ingest.burst as usize) < BULK_ITEMS_MAX {
            let least = format!("must be at least {BULK_ITEMS_MAX}, the events of one bulk request");
            return refuse(&format!("ingest.burst: {least}"));
        }
        if retries.per_second == 0 || retries.burst == 0 {
            return refuse("retries: per_second and burst must be at least 1");
        }
        if auth.failures_per_minute == 0 || auth.failures_burst == 0 {
            return refuse("auth: failures_per_minute and failures_burst must be at least 1");
        }
        if auth.sign_ins_per_minute == 0 || auth.sign_ins_burst == 0 {
            return refuse("auth: sign_ins_per_minute and sign_ins_burst must be at least 1");
        }
        if auth.account_sign_ins_per_hour == 0 || auth.account_sign_ins_burst == 0 {
            return refuse("auth: account_sign_ins_per_hour and account_sign_ins_burst must be at least 1");
        }
        if !(1..=256).contains(&delivery.max_in_flight) {
            return refuse("delivery.max_in_flight: must be from 1 to 256");
        }
        if !(0.0..=1.0).contains(&delivery.retry_jitter) {
            return refuse("delivery.retry_jitter: must be from 0 to 1");
        }
        let segment = SEGMENT_BYTES;
        if !segment.contains(&store.segment_bytes) || !store.segment_bytes.is_multiple_of(4_096) {
            return refuse("store.segment_bytes: must be a multiple of 4096 from 1048576 to 1073741824");
        }
        self.check_vendors()?;
        if store.retention_days == 0 {
            return refuse("store.retention_days: must be at least 1");
        }
        if store.audit_retention_days == 0 {
            return refuse("store.audit_retention_days: must be at least 1");
        }
        self.operational_webhook.check(&self.outbound_allow, self.allow_http)?;
        self.check_plans()
    }

    fn check_plans(&self) -> Result<(), ConfigError> {
        let default = self.plan.iter().map(|name| ("plan".to_owned(), name));
        let own = self.plan_of.iter().map(|(id, name)| (format!("plan_of.{id}"), name));
        for (key, name) in default.chain(own) {
            if !self.plans.contains_key(name) {
                return Err(ConfigError(format!(
                    "{key}: there is no [plans.{name}]; write one, or name another"
                )));
            }
        }
        for (name, plan) in &self.plans {
            if plan.retention_days == Some(0) {
                return Err(ConfigError(format!("plans.{name}.retention_days: must be at least 1")));
            }
        }
        Ok(())
    }

    /// The plans there are, and whose is which.
    pub fn plans(&self) -> Plans {
        Plans { plans: self.plans.clone(), default: self.plan.clone(), of: self.plan_of.clone() }
    }

    /// The retry policy of connections that have none of their own.
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy { waits: self.retry_schedule.0.clone(), jitter: self.delivery.retry_jitter }
    }

    /// What browsers reach the server by, without a slash at its end.
    pub fn public_url(&self, mut listening: SocketAddr) -> String {
        if listening.ip().is_unspecified() {
            listening.set_ip([127, 0, 0, 1].into());
        }
        self.public_url.as_ref().map_or_else(|| format!("http://{listening}"), |url| url.0.clone())
    }

    /// Where the key that seals secrets is kept.
    pub fn master_key_path(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| {
            // Taken apart and put together again, so that a trailing slash makes no `data/.key`.
            let mut beside = self.data.components().collect::<PathBuf>().into_os_string();
            beside.push(".key");
            beside.into()
        })
    }
}

/// The waits before each further try: `10s,30s,2m`, where `1s*30` is thirty of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule(pub Vec<Duration>);

/// A text that is not what it should be, and what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl FromStr for RetrySchedule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut waits = Vec::new();
        for item in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (wait, times) = item.split_once('*').unwrap_or((item, "1"));
            let wait = parse_span(wait.trim())?;
            let times = times.trim().parse::<usize>().ok().filter(|times| (1..=WAITS_MAX).contains(times));
            let times = times.ok_or_else(|| ParseError(format!("not a count from 1 to 100: {item}")))?;
            if wait > WAIT_MAX {
                return Err(ParseError(format!("longer than 8 days: {item}")));
            }
            waits.extend(std::iter::repeat_n(wait, times));
            if waits.len() > WAITS_MAX {
                return Err(ParseError(format!("more than {WAITS_MAX} waits")));
            }
        }
        Ok(Self(waits))
    }
}

/// A name server's address; port 53 where none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl FromStr for NameServer {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let port_53 = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        let address = text.parse().or_else(|_| port_53());
        address.map(Self).map_err(|_| ParseError(format!("not an address or address:port: {text}")))
    }
}

/// Scheme, host and port that browsers reach the server by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(pub String);

impl FromStr for PublicUrl {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError(format!("not an http or https URL without a path: {text}"));
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let origin = url.origin().ascii_serialization();
        let is_origin = url.as_str().strip_suffix('/') == Some(&origin);
        let is_http = ["http", "https"].contains(&url.scheme());
        if is_http && is_origin { Ok(Self(origin)) } else { Err(wrong()) }
    }
}

/// A span of time such as `250ms`, `10s`, `2m`, `6h`, `7d`.
pub fn parse_span(text: &str) -> Result<Duration, ParseError> {
    let wrong = || ParseError(format!("not a span of time such as 250ms, 10s, 2m, 6h or 7d: {text}"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_span(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Empty text is nothing.
fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

/// A list, or text with commas as a variable has it.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listed {
        List(Vec<String>),
        Text(String),
    }
    let networks = match Listed::deserialize(deserializer)? {
        Listed::List(list) => list,
        Listed::Text(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    let mut parsed = Vec::new();
    for network in networks.iter().filter(|text| !text.is_empty()) {
        let wrong = || D::Error::custom(format!("not a network such as 10.0.0.0/8: {network}"));
        parsed.push(network.parse().map_err(|_| wrong())?);
    }
    Ok(parsed)
}

/// Figment's first complaint: what, at which key, from which source.
fn one_line(err: &figment::Error) -> String {
    let key = err.path.iter().filter(|part| *part != "default").cloned().collect::<Vec<_>>().join(".");
    let source = err.metadata.as_ref().map_or(String::new(), |metadata| match &metadata.source {
        Some(source) => format!(" (in {source})"),
        None => format!(" (in {})", metadata.name),
    });
    let at = if key.is_empty() { key } else { format!("{key}: ") };
    format!("{at}{}{source}", err.kind).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<Config, ConfigError> {
        let figment = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml));
        let config: Config = figment.extract().map_err(|err| ConfigError(one_line(&err)))?;
        config.check().map(|()| config)
    }

    #[test]
    fn the_defaults_are_complete_and_pass() {
        let config = Config::defaults();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.retry(), RetryPolicy::default());
        assert_eq!(config.master_key_path(), Path::new("weft-data.key"));
        assert_eq!(config.dns, None);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        #[rustfmt::skip]
        let cases = [
            ("lisen = 'x'",                          "lisen"),
            ("[http]\nheader_timeot = '1s'",         "http.header_timeot"),
            ("listen = 'here'",                      "listen"),
            ("retry_schedule = '10s,soon'",          "retry_schedule: not a span"),
            ("retry_schedule = '1s*101'",            "retry_schedule"),
            ("retry_schedule = '9d'",                "retry_schedule"),
            ("outbound_allow = ['10.0.0.0/40']",     "outbound_allow: not a network"),
            ("dns = 'resolver'",                     "dns: not an address"),
            ("[http]\nheader_timeout = 10",          "http.header_timeout"),
            ("[http]\nheader_timeout = '0s'",        "http.header_timeout: must be more than 0"),
            ("[http]\nidle_timeout = '1s'",          "http.idle_timeout"),
            ("[http]\nconnections_max = 0",          "http.connections_max"),
            ("[http]\nconnections_max = -1",         "http.connections_max"),
            ("[ingest]\nevents_per_second = 0",      "ingest.events_per_second"),
            ("[ingest]\nburst = 99",                 "ingest.burst: must be at least 100"),
            ("[ingest]\nbulk_bytes_max = 5",         "ingest.bulk_bytes_max"),
            ("[ingest]\npayload_bytes_max = 1023",   "ingest.payload_bytes_max"),
            ("[ingest]\npayload_bytes_max = 1048577\nbulk_bytes_max = 9000000", "ingest.payload_bytes_max"),
            ("[retries]\nburst = 0",                 "retries: per_second and burst"),
            ("[delivery]\nmax_in_flight = 257",      "delivery.max_in_flight"),
            ("[delivery]\nretry_jitter = 1.5",       "delivery.retry_jitter"),
            ("[store]\nsegment_bytes = 1000",        "store.segment_bytes"),
            ("[store]\nsegment_bytes = 1048577",     "store.segment_bytes"),
            ("log_format = 'xml'",                   "log_format"),
            ("plan = 'small'",                       "plan: there is no [plans.small]"),
            ("[plan_of]\nacme = 'small'",            "plan_of"),
            ("[plan_of]\n4c8a1e5e-0000-4000-8000-000000000001 = 'small'", "plan_of.4c8a1e5e-0000-4000-8000-000000000001: there is no"),
            ("[plans.small]\nrulez = 1",             "plans.small.rulez"),
            ("[plans.small]\nrules = -1",            "plans.small.rules"),
            ("[plans.small]\nrules = 1.5",           "plans.small.rules"),
            ("[plans.small]\nrules = 'many'",        "plans.small.rules"),
            ("[plans.small]\non_events_exceeded = 'drop'", "plans.small.on_events_exceeded"),
            ("[plans.small]\nretention_days = 0",    "plans.small.retention_days: must be at least 1"),
            ("data = ''",                            "data"),
            ("[operational_webhook]\nurl = 'x'",     "operational_webhook.url"),
            ("[operational_webhook]\nsecret = 5",    "operational_webhook.secret: must be text"),
            ("public_url = 'weft.example.com'",      "public_url: not an http"),
            ("public_url = 'https://a.example/x'",   "public_url: not an http"),
            ("public_url = 'https://u@a.example'",   "public_url: not an http"),
            ("public_url = 'ftp://a.example'",       "public_url: not an http"),
            ("[oauth.slack]\nclient_id = 'x'",       "oauth.slack.client_secret: is missing"),
            ("[oauth.slack]\nclient_secret = 'x'",   "oauth.slack.client_id: is missing"),
            ("[oauth.slack]\nclient = 'x'",          "oauth.slack.client"),
            ("[hosts]\n'api.slack.com' = 'slack'",   "hosts.api.slack.com: not a host"),
            ("[hosts]\n'https://a' = 'http://b'",    "hosts.https://a: not a host"),
            ("hosts = 'api.slack.com'",              "hosts: not host=URL"),
        ];
        for (toml, expected) in cases {
            let refused = with(toml).expect_err(toml).to_string();
            assert!(
                refused.starts_with("configuration: ") && refused.contains(expected),
                "{toml}: {refused}"
            );
            assert!(!refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn an_organization_has_the_plan_that_is_written_for_it() {
        let toml = "plan = 'small'\n[plans.small]\nrules = 0\n[plans.large]\nevents_per_month = 100000\n\
            on_events_exceeded = 'refuse'\n[plan_of]\n4c8a1e5e-0000-4000-8000-000000000001 = 'large'";
        let plans = with(toml).expect("it is well formed").plans();
        let own = "4c8a1e5e-0000-4000-8000-000000000001".parse().expect("an id");
        assert_eq!(plans.plan_of(own).events_let_in(), Some(100_000));
        let other = plans.plan_of(OrganizationId::random());
        assert_eq!((other.rules, other.events_let_in()), (Some(0), None));
        assert_eq!(*Config::defaults().plans().plan_of(own), Plan::default(), "there is no limit");
    }

    #[test]
    fn a_schedule_reads_as_it_is_written() {
        let ms = |text: &str| {
            text.parse::<RetrySchedule>().map(|s| s.0.iter().map(Duration::as_millis).collect::<Vec<_>>())
        };
        #[rustfmt::skip]
        let cases = [
            ("10s,30s,2m",        Some(vec![10_000, 30_000, 120_000])),
            ("1s*3, 250ms",       Some(vec![1_000, 1_000, 1_000, 250])),
            ("1h,1d",             Some(vec![3_600_000, 86_400_000])),
            ("",                  Some(vec![])),
            ("10",                None),
            ("s",                 None),
            ("10s,",              None),
            ("-1s",               None),
            ("1s*0",              None),
            ("1s*",               None),
            ("1.5s",              None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ms(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn lists_may_be_text_and_a_name_server_may_leave_its_port_out() {
        let config =
            with("outbound_allow = '127.0.0.0/8, ::1/128'\ndns = '127.0.0.1'").expect("it is well formed");
        assert_eq!(config.outbound_allow.len(), 2);
        assert_eq!(config.dns, Some(NameServer(([127, 0, 0, 1], 53).into())));
        assert_eq!("[::1]:5353".parse::<NameServer>().map(|server| server.0.port()), Ok(5353));
    }

    #[test]
    fn browsers_are_sent_where_it_says_or_where_the_server_listens() {
        #[rustfmt::skip]
        let cases = [
            ("",                            "127.0.0.1:4100",  "http://127.0.0.1:4100"),
            ("",                            "0.0.0.0:80",      "http://127.0.0.1:80"),
            ("",                            "[::1]:4100",      "http://[::1]:4100"),
            ("https://Weft.example.com/",   "0.0.0.0:80",      "https://weft.example.com"),
            ("http://10.0.0.7:8080",        "0.0.0.0:80",      "http://10.0.0.7:8080"),
        ];
        for (set, listening, expected) in cases {
            let config = with(&format!("public_url = '{set}'")).expect("it is well formed");
            assert_eq!(config.public_url(listening.parse().expect("an address")), expected, "{set}");
        }
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the error is figment's")]
    fn variables_override_the_file_and_unknown_ones_are_refused() {
        figment::Jail::expect_with(|jail| {
            jail.create_file("weft.toml", "listen = '127.0.0.1:1'\nallow_http = true")?;
            jail.set_env("WEFT_LISTEN", "127.0.0.1:2");
            jail.set_env("WEFT_HTTP__IDLE_TIMEOUT", "20s");
            jail.set_env("WEFT_OUTBOUND_ALLOW", "127.0.0.0/8,10.0.0.0/8");
            jail.set_env("WEFT_MASTER_KEY", "is read elsewhere");
            jail.set_env("WEFT_SERVICE_HOST", "is not for us");
            let config = Config::load(Some(Path::new("weft.toml"))).map_err(|err| err.to_string())?;
            assert_eq!(config.listen.port(), 2);
            assert!(config.allow_http);
            assert_eq!(config.http.idle_timeout, Duration::from_secs(20));
            assert_eq!(config.outbound_allow.len(), 2);

            jail.set_env("WEFT_OAUTH__SLACK__CLIENT_ID", "3336676.569200954261");
            jail.set_env("WEFT_OAUTH__SLACK__CLIENT_SECRET", "12345678901234567890123");
            jail.set_env("WEFT_OAUTH__DISCORD__BOT_TOKEN", "true");
            jail.set_env("WEFT_HOSTS", "api.slack.com=http://127.0.0.1:9, b.example=https://c.example/d");
            let config = Config::load(None).map_err(|err| err.to_string())?;
            let (operator, printed) = (config.operator(), format!("{config:?}"));
            assert_eq!(operator.apps["slack"].client_id, "3336676.569200954261");
            assert_eq!(operator.apps["slack"].client_secret.expose(), "12345678901234567890123");
            assert_eq!(operator.apps["discord"].bot_token.as_ref().map(|token| token.expose()), Some("true"));
            assert_eq!(operator.hosts["b.example"], "https://c.example/d");
            assert!(!printed.contains("12345678901234567890123"), "{printed}");

            jail.set_env("WEFT_LISTN", "x");
            let refused = Config::load(None).expect_err("the variable is unknown").to_string();
            assert!(refused.contains("listn"), "{refused}");
            assert!(Config::load(Some(Path::new("absent.toml"))).is_err());
            Ok(())
        });
    }
}
