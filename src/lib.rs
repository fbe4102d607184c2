//! Weft's edges: HTTP in, and the command line. They speak; the engine decides.
//!
//! [`serve`] is the one way in, so that tests run the real server.

pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
mod dev;
mod http;
pub mod master_key;
mod mcp;
mod proxies;
pub mod rate;
mod receiver;
pub mod telemetry;

use crate::{
    api::App,
    config::{Config, ConfigError},
    master_key::{MasterKey, MasterKeyError},
};
use actors::{
    clock::Clock,
    engine::{DeliveryDefaults, Engine, EngineError, Options},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::task::JoinSet;

/// How often full buckets are forgotten and histograms are compacted.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Why Weft did not start, or did not do what it was told. One line, for a person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The process is of no use any more; its next life takes up what it left.
    #[error("nothing is delivered any more: the root of the actors fell; start again to go on")]
    Fallen,
    #[error("{0}")]
    Told(String),
}

/// What the engine is started with, by this configuration.
pub fn engine_options(config: &Config, master_key: MasterKey, clock: Clock) -> Options {
    Options {
        data: Some(config.data.clone()),
        segment_bytes: config.store.segment_bytes,
        cache_bytes: config.store.cache_bytes,
        accept_damage: config.store.accept_damage,
        delivery: DeliveryDefaults {
            retry: config.retry(),
            timeout: config.delivery.timeout,
            max_in_flight: config.delivery.max_in_flight,
        },
        retention_days: config.store.retention_days,
        plans: config.plans(),
        audit_retention_days: config.store.audit_retention_days,
        outbound_allow: config.outbound_allow.clone(),
        allow_http: config.allow_http,
        name_server: config.dns.map(|server| server.0),
        extra_root_pem: config.extra_root_pem.clone(),
        operational_webhook: config.operational_webhook.told(),
        clock,
        operator: Arc::new(config.operator()),
        progress: Arc::new(|what| tracing::info!("{what}")),
        ..Options::new(master_key)
    }
}

/// Opens the store, recovers, and serves. Configuration must have passed [`Config::check`].
pub async fn serve(config: &Config, master_key: MasterKey, clock: Clock) -> Result<Server, Error> {
    // Before the engine: a counter made before there is a recorder counts nothing for ever.
    telemetry::metrics();
    let engine = Engine::start(engine_options(config, master_key, clock.clone())).await?;
    let served = serve_engine(config, engine.clone(), clock).await;
    if served.is_err() {
        engine.drain(Duration::ZERO).await?;
    }
    served
}

/// Serves an engine that runs already.
pub async fn serve_engine(config: &Config, engine: Engine, clock: Clock) -> Result<Server, Error> {
    let app = App::new(engine, clock, config);
    let limits = http::Limits {
        connections_max: config.http.connections_max,
        header_timeout: config.http.header_timeout,
        write_timeout: config.http.write_timeout,
        idle_timeout: config.http.idle_timeout,
    };
    let router = app.router();
    let answer = move |request, peer| api::answer(router.clone(), request, peer);
    let http = http::Server::start(config.listen, limits, answer)
        .await
        .map_err(|source| Error::Listen { address: config.listen, source })?;
    app.public_url.get_or_init(|| config.public_url(http.address()));
    let mut tidying = JoinSet::new();
    tidying.spawn(tidy(app.clone()));
    Ok(Server { http, app, tidying, shutdown: config.shutdown.clone() })
}

async fn tidy(app: App) {
    let mut ticks = tokio::time::interval(TIDY_EVERY);
    loop {
        ticks.tick().await;
        app.ingest_rate.tidy();
        app.retry_rate.tidy();
        app.auth_failures.tidy();
        app.sign_ins.tidy();
        app.account_sign_ins.tidy();
        telemetry::metrics().run_upkeep();
    }
}

/// A server at work. [`Self::shut_down`] ends it well; dropping it cuts connections off.
pub struct Server {
    http: http::Server,
    app: App,
    tidying: JoinSet<()>,
    shutdown: config::Shutdown,
}

impl Server {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        &self.app.engine
    }

    /// Serves until somebody asks for the end, or [`Error::Fallen`]. Either way [`Self::shut_down`] is next.
    pub async fn serve_until(&self, asked: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::select! {
            () = asked => Ok(()),
            () = self.app.engine.failed() => Err(Error::Fallen),
        }
    }

    /// Not ready any more → not listening any more; what was accepted is answered while attempts in
    /// flight come back, and both are given up at the same time → the store is closed.
    pub async fn shut_down(mut self) -> Result<(), Error> {
        self.app.ending.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.shutdown.unready).await;
        self.tidying.abort_all();
        tokio::join!(self.http.stop(self.shutdown.drain), self.app.engine.land(self.shutdown.drain));
        Ok(self.app.engine.close().await?)
    }
}
