//! Why no answer came back, in words for the person who runs the endpoint.
//!
//! An HTTP library's errors nest five deep and print internal addresses; here they become one
//! of a few fixed sentences.

use super::{address::AddressError, resolve::ResolveError};
use crate::domain::delivery::Outcome;
use std::{error::Error, io, time::Duration};

/// No answer. Prints one sentence, without addresses and secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the endpoint did not answer within {0:?}")]
    Timeout(Duration),
    #[error("connecting to the endpoint took too long")]
    ConnectTimeout,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error("{0}")]
    Network(&'static str),
}

impl SendError {
    /// What this means for the attempt.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout(_) | Self::ConnectTimeout => Outcome::Timeout,
            Self::Address(_) | Self::Name(_) | Self::Network(_) => Outcome::NetworkError,
        }
    }

    pub(super) fn from_reqwest(err: &reqwest::Error, timeout: Duration) -> Self {
        if let Some(err) = find::<ResolveError>(err) {
            return Self::Name(*err);
        }
        if let Some(err) = find::<rustls::Error>(err) {
            return Self::Network(tls_phrase(err));
        }
        let io_kind = find::<io::Error>(err).map(io::Error::kind);
        if err.is_timeout() || io_kind == Some(io::ErrorKind::TimedOut) {
            return if err.is_connect() { Self::ConnectTimeout } else { Self::Timeout(timeout) };
        }
        let http_phrase = find::<hyper::Error>(err).and_then(http_phrase);
        let phrase = io_kind.and_then(io_phrase).or(http_phrase).unwrap_or(match err.is_connect() {
            true => "could not connect to the endpoint",
            false => "the request to the endpoint failed before it was answered",
        });
        Self::Network(phrase)
    }
}

/// The first error of this type in the chain, also where `io::Error` hides what it wraps.
fn find<'a, E: Error + 'static>(err: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut link = Some(err);
    while let Some(err) = link {
        if let Some(found) = err.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        link = match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => err.source(),
        };
    }
    None
}

fn tls_phrase(err: &rustls::Error) -> &'static str {
    use rustls::CertificateError::*;
    let rustls::Error::InvalidCertificate(reason) = err else {
        return match err {
            rustls::Error::InvalidMessage(_) => "the endpoint does not speak TLS on this port",
            _ => "the TLS handshake with the endpoint failed",
        };
    };
    match reason {
        Expired | ExpiredContext { .. } => "the endpoint's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the endpoint's certificate is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => "the endpoint's certificate is for another name",
        UnknownIssuer => "the endpoint's certificate is not signed by a trusted authority",
        Revoked => "the endpoint's certificate has been revoked",
        _ => "the endpoint's certificate is not valid",
    }
}

fn io_phrase(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind::*;
    match kind {
        ConnectionRefused => Some("the endpoint refused the connection"),
        ConnectionReset | ConnectionAborted | BrokenPipe => Some("the connection to the endpoint was reset"),
        UnexpectedEof => Some("the endpoint closed the connection before answering"),
        HostUnreachable | NetworkUnreachable | AddrNotAvailable => Some("the endpoint cannot be reached"),
        _ => None,
    }
}

fn http_phrase(err: &hyper::Error) -> Option<&'static str> {
    if err.is_parse() {
        Some("the endpoint's answer is not valid HTTP, or its headers are too large")
    } else if err.is_incomplete_message() || err.is_closed() || err.is_canceled() {
        Some("the endpoint closed the connection before answering")
    } else {
        None
    }
}
