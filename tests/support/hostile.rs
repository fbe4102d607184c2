//! A receiver that means ill: it answers bytes, not HTTP.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// The file with the certificate of the authority that vouches for [`Hostile::start_tls`].
pub const AUTHORITY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/actors/src/transport/testdata/authority.pem");
const HOOK_EXAMPLE: &[u8] = include_bytes!("../../actors/src/transport/testdata/hook.example.pem");

/// What is done with one request, once its head and body are read.
#[derive(Clone, Debug)]
pub enum Play {
    /// These bytes, and then the next request.
    Answer(Vec<u8>),
    /// These bytes, and the end of the connection.
    Close(Vec<u8>),
    /// These bytes, and then nothing.
    Hang(Vec<u8>),
    /// The first bytes, then the second ones for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// The first bytes, then the second ones for ever, one by one, slowly.
    Drip(Vec<u8>, Vec<u8>),
}

/// It ends when it is dropped.
pub struct Hostile {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Hostile {
    /// The n-th request gets the n-th play, and the last one is repeated.
    pub async fn start(plays: Vec<Play>) -> Self {
        Self::serve(plays, None).await
    }

    /// The same over TLS, as `hook.example`, by an authority made up for tests ([`AUTHORITY`]).
    pub async fn start_tls(plays: Vec<Play>) -> Self {
        Self::serve(plays, Some(hook_example())).await
    }

    async fn serve(plays: Vec<Play>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, plays) = (Arc::<AtomicUsize>::default(), Arc::new(plays));
        let mut serving = JoinSet::new();
        let counter = asked.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (plays, asked, tls) = (plays.clone(), counter.clone(), tls.clone());
                connections.spawn(async move {
                    // How it ends is up to whoever asked.
                    let _ = match tls {
                        None => connection(stream, &plays, &asked).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => connection(stream, &plays, &asked).await,
                            Err(err) => Err(err),
                        },
                    };
                });
            }
        });
        Self { address, asked, _serving: serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests that came so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn hook_example() -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(HOOK_EXAMPLE).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(HOOK_EXAMPLE).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS versions").with_no_client_auth().with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("key and certificate match")))
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    plays: &[Play],
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    while read_request(&mut stream).await? {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        match plays.get(number).or(plays.last()).expect("a play") {
            Play::Answer(bytes) => stream.write_all(bytes).await?,
            Play::Close(bytes) => {
                stream.write_all(bytes).await?;
                return stream.shutdown().await;
            }
            Play::Hang(bytes) => {
                stream.write_all(bytes).await?;
                return std::future::pending().await;
            }
            Play::Endless(first, more) => {
                stream.write_all(first).await?;
                loop {
                    stream.write_all(more).await?;
                }
            }
            Play::Drip(first, more) => {
                stream.write_all(first).await?;
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                for byte in more.iter().cycle() {
                    pace.tick().await;
                    stream.write_all(&[*byte]).await?;
                }
            }
        }
    }
    Ok(())
}

/// Reads one request with a `Content-Length`. `false`: there is none.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head_bytes) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_bytes]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let body_bytes: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            if bytes.len() >= head_bytes + 4 + body_bytes {
                return Ok(true);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(false);
        }
    }
}
