//! What an engine is started with, and what is made of it.

use super::{EngineError, OperationalWebhook, internal};
use crate::{
    clock::Clock,
    destinations::setup::Operator,
    domain::{plan::Plans, retry::RetryPolicy},
    store::{
        Store,
        embedded::{self, EmbeddedStore},
        memory::MemoryStore,
    },
    transport::{
        Http, HttpArgs,
        address::AddressPolicy,
        resolve::{Dns, Resolver},
    },
    tree::{Faults, Preparer},
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What an engine is started with.
#[derive(Clone)]
pub struct Options {
    /// Where the embedded store lives; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// The key-encryption key.
    pub master_key: [u8; 32],
    /// Size of a journal segment. Two more are kept in reserve.
    pub segment_bytes: u64,
    /// Memory for the index's cache.
    pub cache_bytes: u64,
    /// Start although acknowledged records are damaged, leaving those out.
    pub accept_damage: bool,
    pub delivery: DeliveryDefaults,
    /// Days that finished events are kept where a workspace says nothing.
    pub retention_days: u32,
    /// Days that entries of the audit log are kept.
    pub audit_retention_days: u32,
    pub plans: Plans,
    /// Private addresses that may be reached.
    pub outbound_allow: Vec<ipnet::IpNet>,
    /// Plain-http destinations too.
    pub allow_http: bool,
    /// A name server to ask instead of the system's.
    pub name_server: Option<std::net::SocketAddr>,
    /// More root certificates, in PEM.
    pub extra_root_pem: Option<PathBuf>,
    /// Where operational events go; `None`: nowhere.
    pub operational_webhook: Option<OperationalWebhook>,
    pub clock: Clock,
    /// How long an actor without work stays.
    pub idle_after: Duration,
    /// How often what is past its retention is dropped.
    pub retention_every: Duration,
    /// Told what happens while a store is opened, such as a rebuild and how far it is.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
    /// What connections to vendors are made with beside their own settings.
    pub operator: Arc<Operator>,
    pub seams: Seams,
}

impl Options {
    /// The usual settings, in memory, with this master key.
    pub fn new(master_key: [u8; 32]) -> Self {
        Self {
            data: None,
            master_key,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            accept_damage: false,
            delivery: DeliveryDefaults {
                retry: RetryPolicy::default(),
                timeout: Duration::from_secs(15),
                max_in_flight: 64,
            },
            retention_days: 30,
            audit_retention_days: 400,
            plans: Plans::default(),
            outbound_allow: Vec::new(),
            allow_http: false,
            name_server: None,
            extra_root_pem: None,
            operational_webhook: None,
            clock: Clock::system(),
            idle_after: Duration::from_secs(30),
            retention_every: Duration::from_secs(300),
            progress: Arc::new(|_| {}),
            operator: Arc::default(),
            seams: Seams::default(),
        }
    }
}

/// Where a test puts something else in place. A server leaves them alone.
#[derive(Clone, Default)]
pub struct Seams {
    pub store: Option<Arc<dyn Store>>,
    pub disk: Option<Arc<dyn embedded::journal::Disk>>,
    pub resolver: Option<Arc<dyn Resolver>>,
    pub preparer: Option<Arc<dyn Preparer>>,
    pub faults: Faults,
}

/// How destinations are spoken to where a connection's policy says nothing.
#[derive(Clone, Debug)]
pub struct DeliveryDefaults {
    pub retry: RetryPolicy,
    pub timeout: Duration,
    pub max_in_flight: u32,
}

pub(super) fn http(options: &Options) -> Result<Http, EngineError> {
    let resolver: Arc<dyn Resolver> = match (&options.seams.resolver, options.name_server) {
        (Some(resolver), _) => resolver.clone(),
        (None, Some(server)) => Arc::new(Dns::by_server(server).map_err(internal)?),
        (None, None) => Arc::new(Dns::system().map_err(internal)?),
    };
    let extra_roots_pem = match &options.extra_root_pem {
        Some(path) => Some(std::fs::read(path).map_err(|err| {
            EngineError::Internal(format!("cannot read the root certificates in {}: {err}", path.display()))
        })?),
        None => None,
    };
    let policy = AddressPolicy { allow: options.outbound_allow.clone(), allow_http: options.allow_http };
    Http::new(HttpArgs { policy, resolver, extra_roots_pem }).map_err(internal)
}

pub(super) async fn open_store(options: &Options) -> Result<Arc<dyn Store>, EngineError> {
    if let Some(store) = &options.seams.store {
        return Ok(store.clone());
    }
    let Some(directory) = options.data.clone() else { return Ok(Arc::new(MemoryStore::new())) };
    let disk = options.seams.disk.clone().unwrap_or_else(|| Arc::new(embedded::journal::RealDisk));
    let options = embedded::Options {
        directory,
        segment_bytes: options.segment_bytes,
        cache_bytes: options.cache_bytes,
        accept_damage: options.accept_damage,
        disk,
        say: options.progress.clone(),
    };
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(options)).await;
    Ok(Arc::new(opened.map_err(internal)?.map_err(internal)?))
}
