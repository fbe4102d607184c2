//! A name server whose owner may lie: each question is answered as the test says.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// One record of an answer. It may not be remembered: its time to live is 0.
#[derive(Clone, Debug)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// The name asked for is another name for this one.
    Cname(&'static str),
}

/// It ends when it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// `answer` is asked about a name; `None`: there is no such name. Records of the other family
    /// than the question's are left out.
    pub async fn start(answer: impl Fn(&str) -> Option<Vec<Record>> + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let asked = Arc::<AtomicUsize>::default();
        let counter = asked.clone();
        let serving = tokio::spawn(async move {
            let mut question = [0; 1_024];
            while let Ok((_, client)) = socket.recv_from(&mut question).await {
                counter.fetch_add(1, Ordering::SeqCst);
                let reply = reply(&question, &answer);
                let _ = socket.send_to(&reply, client).await;
            }
        });
        Self { address, asked, serving }
    }

    /// Questions that came so far; a look-up asks one for each family.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const A: u8 = 1;
const CNAME: u8 = 5;
const AAAA: u8 = 28;

/// RFC 1035, section 4: the header, the question as it came, and one record each.
fn reply(question: &[u8], answer: impl Fn(&str) -> Option<Vec<Record>>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let label = at + 1..at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[label.clone()]).to_ascii_lowercase());
        at = label.end;
    }
    let (kind, question_end) = (question[at + 2], at + 5);
    let found = answer(&labels.join("."));
    let code = if found.is_some() { 0x80 } else { 0x83 };
    let records: Vec<(u8, Vec<u8>)> = found
        .unwrap_or_default()
        .into_iter()
        .filter_map(|record| match record {
            Record::A(ip) if kind == A => Some((A, ip.octets().to_vec())),
            Record::Aaaa(ip) if kind == AAAA => Some((AAAA, ip.octets().to_vec())),
            Record::Cname(name) => Some((CNAME, encoded(name))),
            Record::A(_) | Record::Aaaa(_) => None,
        })
        .collect();
    let count = u8::try_from(records.len()).expect("few records");
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, code, 0, 1, 0, count, 0, 0, 0, 0]);
    bytes.extend(&question[12..question_end]);
    for (kind, data) in records {
        let length = u8::try_from(data.len()).expect("short data");
        bytes.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, length]);
        bytes.extend(data);
    }
    bytes
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}
