//! The only HTTP client: one for the whole process, and every byte that comes back is hostile.
//!
//! A request reaches public addresses only ([`address`], [`resolve`]), follows no redirect,
//! uses no proxy from the environment, expands no compressed body, and ends at its deadline.
//! The rest of an answer nobody needs is read a little way, so that the connection can be used
//! again, and then dropped.
//!
//! Response headers: hyper stops at 100 of them or about 400 KiB, and reqwest has no setting for
//! less, so that is what one response can take; what is kept of them is at most
//! [`redact::HEADER_BYTES_MAX`].

pub mod address;
mod failure;
#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(crate) mod loopback;
pub mod redact;
pub mod resolve;
pub mod retry_after;

pub use failure::SendError;

use address::{AddressError, AddressPolicy};
use bytes::Bytes;
use reqwest::{Method, StatusCode, Url, header::HeaderMap};
use resolve::{Guarded, ResolveError, Resolver};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// The most that is read of a response body.
pub const BODY_BYTES_MAX: usize = 16 * 1_024;

/// The same of an answer that is read for what is in it, such as an account's fields.
pub const LONG_BODY_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// How `User-Agent` names us.
pub const USER_AGENT: &str = concat!("Weft/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept; after that its name is looked up anew.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// Unused connections kept to one host.
const IDLE_PER_HOST_MAX: usize = 1_024;

/// How long making a connection may take, within the request's own time.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the rest of an answer that is no longer needed may hold up its attempt.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// What the client is made with.
pub struct HttpArgs {
    pub policy: AddressPolicy,
    pub resolver: Arc<dyn Resolver>,
    /// Certificates, in PEM, trusted as authorities beside the machine's own.
    pub extra_roots_pem: Option<Vec<u8>>,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the extra root certificates hold no certificate in PEM")]
    NoRoots,
    #[error("the extra root certificates cannot be read")]
    BadRoots(#[source] reqwest::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The HTTP client. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    guarded: Guarded,
}

/// One request. `headers` are sent as they are, beside `Host`, `Accept` and `Content-Length`.
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The time for everything: look-up, connection, headers and body.
    pub timeout: Duration,
    pub keep: Keep,
}

/// Which response bodies are read for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All.
    Every,
    /// Only those of statuses from 400: a 2xx or 3xx says enough.
    Failures,
    /// All, and up to [`LONG_BODY_BYTES_MAX`] of each.
    Long,
}

/// An answer: any status, success or not.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most [`BODY_BYTES_MAX`], or [`LONG_BODY_BYTES_MAX`]; empty if it was not to be kept.
    pub body: Vec<u8>,
    /// The body was longer, broke off, or did not end in time.
    pub truncated: bool,
}

impl Http {
    /// A client that speaks to what `args.policy` allows.
    ///
    /// On a machine without root certificates it starts all the same and says so: plain `http`
    /// and the extra roots work, every other `https` endpoint is refused as not trusted.
    pub fn new(args: HttpArgs) -> Result<Self, HttpError> {
        // Fails only when a provider is there already, which then does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(args.policy);
        let roots = match &args.extra_roots_pem {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::BadRoots)?,
            None => Vec::new(),
        };
        if args.extra_roots_pem.is_some() && roots.is_empty() {
            return Err(HttpError::NoRoots);
        }
        let guarded = Guarded { resolver: args.resolver, policy };
        let with_system_roots = builder(guarded.clone()).tls_certs_merge(roots.clone()).build();
        let client = with_system_roots.or_else(|err| {
            let client = builder(guarded.clone()).tls_certs_only(roots).build()?;
            warn!(error = %err, "no root certificates on this machine: https endpoints will not be trusted");
            Ok(client)
        });
        Ok(Self { client: client.map_err(HttpError::Client)?, guarded })
    }

    /// What may be reached.
    pub fn policy(&self) -> &AddressPolicy {
        &self.guarded.policy
    }

    /// Judges a URL by where its host leads now. A name that leads nowhere says nothing: it may
    /// tomorrow, and is judged again at each connection.
    pub async fn check_now(&self, url: &Url) -> Result<(), AddressError> {
        self.policy().check(url)?;
        match url.domain() {
            Some(name) if self.guarded.vetted(name).await == Err(ResolveError::NotPublic) => {
                Err(AddressError::NotPublic)
            }
            _ => Ok(()),
        }
    }

    /// Sends a request and reads the answer as far as it is wanted.
    ///
    /// An answer whose status arrived is an answer, even if its body breaks off or never ends:
    /// what a destination has accepted must not be sent again.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, SendError> {
        self.policy().check(request.url)?;
        let deadline = Instant::now() + request.timeout;
        let mut outgoing = reqwest::Request::new(request.method, request.url.clone());
        *outgoing.headers_mut() = request.headers;
        *outgoing.body_mut() = Some(request.body.into());
        let mut answer = match timeout_at(deadline, self.client.execute(outgoing)).await {
            Err(_) => return Err(SendError::Timeout(request.timeout)),
            Ok(Err(err)) => return Err(SendError::from_reqwest(&err, request.timeout)),
            Ok(Ok(answer)) => answer,
        };
        if answer.remote_addr().is_some_and(|peer| !self.policy().allows(peer.ip())) {
            return Err(SendError::Address(AddressError::NotPublic));
        }
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let (body, truncated) = if request.keep != Keep::Failures || status.as_u16() >= 400 {
            let bytes_max = if request.keep == Keep::Long { LONG_BODY_BYTES_MAX } else { BODY_BYTES_MAX };
            read(&mut answer, bytes_max, deadline).await
        } else {
            drain(&mut answer, deadline.min(Instant::now() + DRAIN_TIME_MAX)).await;
            (Vec::new(), false)
        };
        Ok(Response { status, headers, body, truncated })
    }
}

fn builder(guarded: Guarded) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .dns_resolver(guarded)
        .connect_timeout(CONNECT_TIME_MAX)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
}

/// The body, and whether there was more to it. Read to its end, its connection serves again.
async fn read(answer: &mut reqwest::Response, bytes_max: usize, deadline: Instant) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, answer.chunk()).await {
            Ok(Ok(None)) => return (body, false),
            Ok(Ok(Some(chunk))) => {
                let room = bytes_max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (body, true);
                }
            }
            Ok(Err(_)) | Err(_) => return (body, true),
        }
    }
}

/// Reads on a little, so that the connection can serve again.
async fn drain(answer: &mut reqwest::Response, deadline: Instant) {
    if answer.content_length().is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return;
    }
    let mut drained_bytes = 0;
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, answer.chunk()).await {
        drained_bytes += chunk.len();
        if drained_bytes > BODY_BYTES_MAX {
            return;
        }
    }
}
