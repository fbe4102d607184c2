//! From a name to addresses that may be connected to: all of them, or none.
//!
//! A name's owner decides where it leads and may change his mind between the check and the
//! connection. So the check is made on the very answer a connection uses: reqwest asks
//! [`Guarded`] for each new connection and gets vetted addresses only. One forbidden address
//! among the answers refuses them all.

use super::address::AddressPolicy;
use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    },
    net::{NetError, runtime::TokioRuntimeProvider},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// The longest a look-up may take.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);

/// The most addresses a name may have.
pub const ANSWERS_MAX: usize = 32;

/// The longest an answer is remembered, whatever its own time to live says.
const CACHED_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a name leads nowhere. Names no address: what a name resolves to may be internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("the endpoint's host name does not exist")]
    NotFound,
    #[error("the endpoint's host name could not be looked up")]
    Failed,
    #[error("looking up the endpoint's host name took too long")]
    Timeout,
    #[error("the endpoint's host name has more than {ANSWERS_MAX} addresses")]
    TooManyAnswers,
    #[error("destination address is not allowed: its host name does not lead to public addresses only")]
    NotPublic,
}

/// Asks for the addresses of a name. Deciding about them is not its business.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of both families, in the order they should be tried.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError>;
}

/// The domain name system.
pub struct Dns(TokioResolver);

/// The machine's resolver configuration cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the machine's resolver configuration")]
pub struct DnsError(#[source] NetError);

impl Dns {
    /// As the machine is configured: `/etc/resolv.conf` and `/etc/hosts`.
    pub fn system() -> Result<Self, DnsError> {
        let mut builder = TokioResolver::builder_tokio().map_err(DnsError)?;
        tune(builder.options_mut());
        builder.build().map(Self).map_err(DnsError)
    }

    /// By one name server, such as `127.0.0.1:53`; the hosts file is not asked.
    pub fn by_server(server: SocketAddr) -> Result<Self, DnsError> {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port).to_vec();
        let server = NameServerConfig::new(server.ip(), true, connections);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        tune(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder.build().map(Self).map_err(DnsError)
    }
}

fn tune(options: &mut ResolverOpts) {
    options.timeout = RESOLVE_TIME_MAX.min(options.timeout);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.positive_max_ttl = Some(CACHED_TIME_MAX);
    options.negative_max_ttl = Some(CACHED_TIME_MAX);
}

#[async_trait]
impl Resolver for Dns {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // The final dot keeps the machine's search domains out of it.
        let found = self.0.lookup_ip(format!("{name}.")).await.map_err(|err| match err {
            NetError::Timeout => ResolveError::Timeout,
            err if err.is_nx_domain() || err.is_no_records_found() => ResolveError::NotFound,
            _ => ResolveError::Failed,
        })?;
        Ok(found.iter().take(ANSWERS_MAX + 1).collect())
    }
}

/// A resolver that answers from a script: the n-th question about a name gets the n-th answer,
/// and the last answer repeats. A name without a script does not exist.
#[derive(Default)]
pub struct Scripted {
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: parking_lot::Mutex<HashMap<String, usize>>,
}

impl Scripted {
    /// Adds what a name answers, question by question.
    pub fn name(mut self, name: &str, answers: Vec<Vec<IpAddr>>) -> Self {
        self.answers.insert(name.to_owned(), answers);
        self
    }

    /// How often the name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().get(name).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut asked = self.asked.lock();
        let count = asked.entry(name.to_owned()).or_default();
        let answers = self.answers.get(name).ok_or(ResolveError::NotFound)?;
        let answer = answers.get(*count).or(answers.last()).cloned().unwrap_or_default();
        *count += 1;
        Ok(answer)
    }
}

/// A resolver that lets only allowed addresses through.
#[derive(Clone)]
pub(super) struct Guarded {
    pub resolver: Arc<dyn Resolver>,
    pub policy: Arc<AddressPolicy>,
}

impl Guarded {
    /// The addresses of a name, if every one of them may be connected to.
    pub async fn vetted(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if name.eq_ignore_ascii_case("localhost") {
            // No name server is asked where this host is.
            let loopback: Vec<IpAddr> = self.policy.localhost().collect();
            return if loopback.is_empty() { Err(ResolveError::NotPublic) } else { Ok(loopback) };
        }
        let answers = tokio::time::timeout(RESOLVE_TIME_MAX, self.resolver.addresses(name))
            .await
            .map_err(|_| ResolveError::Timeout)??;
        if answers.is_empty() {
            return Err(ResolveError::NotFound);
        }
        if answers.len() > ANSWERS_MAX {
            return Err(ResolveError::TooManyAnswers);
        }
        if !answers.iter().all(|ip| self.policy.allows(*ip)) {
            return Err(ResolveError::NotPublic);
        }
        Ok(answers)
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = self.clone();
        Box::pin(async move {
            let vetted = guarded.vetted(name.as_str()).await?;
            // Port 0: reqwest puts in the URL's.
            let addrs: Addrs = Box::new(vetted.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "93.184.216.34";
    const PRIVATE: &str = "10.0.0.5";

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn guarded(script: Scripted) -> Guarded {
        Guarded { resolver: Arc::new(script), policy: Arc::default() }
    }

    #[tokio::test]
    async fn one_forbidden_answer_refuses_them_all() {
        let mut bad_among_25 = vec![PUBLIC; 24];
        bad_among_25.push(PRIVATE);
        #[rustfmt::skip]
        let cases = [
            ("public",                     vec![PUBLIC],                        Ok(1)),
            ("two public",                 vec![PUBLIC, "2606:4700::1111"],     Ok(2)),
            ("AAAA only",                  vec!["2606:4700::1111"],             Ok(1)),
            ("private",                    vec![PRIVATE],                       Err(ResolveError::NotPublic)),
            ("public, then private",       vec![PUBLIC, PRIVATE],               Err(ResolveError::NotPublic)),
            ("private, then public",       vec![PRIVATE, PUBLIC],               Err(ResolveError::NotPublic)),
            ("private between public",     vec![PUBLIC, PRIVATE, PUBLIC],       Err(ResolveError::NotPublic)),
            ("private v6 beside public",   vec![PUBLIC, "fd00::1"],             Err(ResolveError::NotPublic)),
            ("IPv4 in IPv6",               vec!["::ffff:10.0.0.5"],             Err(ResolveError::NotPublic)),
            ("25 answers, one bad",        bad_among_25,                        Err(ResolveError::NotPublic)),
            ("as many as may be",          vec![PUBLIC; ANSWERS_MAX],           Ok(ANSWERS_MAX)),
            ("one more",                   vec![PUBLIC; ANSWERS_MAX + 1],       Err(ResolveError::TooManyAnswers)),
            ("no answer",                  vec![],                              Err(ResolveError::NotFound)),
        ];
        for (why, answers, expected) in cases {
            let guarded = guarded(Scripted::default().name("a.example", vec![ips(&answers)]));
            assert_eq!(guarded.vetted("a.example").await.map(|ips| ips.len()), expected, "{why}");
        }
    }

    #[tokio::test]
    async fn a_name_that_turns_private_is_refused_from_that_question_on() {
        for k in 1..=8 {
            let mut answers = vec![ips(&[PUBLIC]); k];
            answers.push(ips(&["127.0.0.1"]));
            let guarded = guarded(Scripted::default().name("rebind.example", answers));
            for _ in 0..k {
                assert_eq!(guarded.vetted("rebind.example").await, Ok(ips(&[PUBLIC])));
            }
            assert_eq!(guarded.vetted("rebind.example").await, Err(ResolveError::NotPublic), "after {k}");
        }
    }

    #[tokio::test]
    async fn localhost_is_never_asked_for() {
        let loopback =
            AddressPolicy { allow: vec!["127.0.0.0/8".parse().expect("a CIDR")], ..Default::default() };
        let mut guarded = guarded(Scripted::default().name("localhost", vec![ips(&[PUBLIC])]));
        assert_eq!(guarded.vetted("localhost").await, Err(ResolveError::NotPublic));
        guarded.policy = Arc::new(loopback);
        assert_eq!(guarded.vetted("localhost").await, Ok(ips(&["127.0.0.1"])));
    }

    /// A name server that knows `two.example` (two A records, one AAAA) and `v6.example` (AAAA only).
    async fn name_server() -> (SocketAddr, tokio::task::JoinSet<()>) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let addr = socket.local_addr().expect("bound");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut query = [0; 1_024];
            while let Ok((_, client)) = socket.recv_from(&mut query).await {
                let question_end = 12 + query[12..].iter().position(|b| *b == 0).expect("a name") + 5;
                let (name, kind) = (&query[12..question_end - 4], query[question_end - 3]);
                let records: Vec<Vec<u8>> = match (name, kind) {
                    (b"\x03two\x07example\0", 1) => vec![vec![93, 184, 216, 34], vec![93, 184, 216, 35]],
                    (b"\x03two\x07example\0" | b"\x02v6\x07example\0", 28) => {
                        vec![std::net::Ipv6Addr::from(0x2606_4700 << 96 | 0x1111).octets().to_vec()]
                    }
                    _ => vec![],
                };
                let is_known = name != b"\x04gone\x07example\0";
                let mut answer = query[..2].to_vec();
                answer.extend([
                    0x81,
                    if is_known { 0x80 } else { 0x83 },
                    0,
                    1,
                    0,
                    records.len() as u8,
                    0,
                    0,
                    0,
                    0,
                ]);
                answer.extend(&query[12..question_end]);
                for record in records {
                    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, record.len() as u8]);
                    answer.extend(record);
                }
                socket.send_to(&answer, client).await.expect("sent");
            }
        });
        (addr, tasks)
    }

    #[tokio::test]
    async fn a_name_server_is_asked_for_both_families() {
        let (addr, _tasks) = name_server().await;
        let dns = Dns::by_server(addr).expect("a resolver");
        #[rustfmt::skip]
        let cases = [
            ("two.example",  Ok(ips(&["93.184.216.34", "93.184.216.35", "2606:4700::1111"]))),
            ("v6.example",   Ok(ips(&["2606:4700::1111"]))),
            ("none.example", Err(ResolveError::NotFound)),
            ("gone.example", Err(ResolveError::NotFound)),
            ("a..b",         Err(ResolveError::Failed)),
        ];
        for (name, expected) in cases {
            let found = dns.addresses(name).await.map(|mut ips| {
                ips.sort();
                ips
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_machines_configuration_is_read() {
        assert!(Dns::system().is_ok() || !std::path::Path::new("/etc/resolv.conf").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_never_answers_is_given_up() {
        struct Never;
        #[async_trait]
        impl Resolver for Never {
            async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
                std::future::pending().await
            }
        }
        let guarded = Guarded { resolver: Arc::new(Never), policy: Arc::default() };
        assert_eq!(guarded.vetted("slow.example").await, Err(ResolveError::Timeout));
    }
}
