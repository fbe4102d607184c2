//! Told to end: what was asked is answered, what is in flight comes back or is kept for the next start.

use crate::support::{Caller, Place, Receiver, Reply, Served, send, until};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

fn event(n: u32) -> Value {
    json!({ "event": "contact.created", "payload": { "n": n } })
}

fn logged(wanted: &'static str) -> impl Fn(&str) -> Option<()> {
    move |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == wanted).then_some(())
    }
}

/// A place with one organization whose events go to the receiver.
async fn place(receiver: &Receiver, variables: &[(&str, &str)]) -> (Place, Served, Caller) {
    let mut place = Place::new(1).await;
    for (name, value) in variables {
        place.set(name, value);
    }
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    caller.route("contact.created", &receiver.url("/hook")).await;
    (place, served, caller)
}

/// I19: SIGTERM and Ctrl-C both answer 503 to readiness while requests are still taken, stop listening, answer
/// the request whose body is half there, wait for the attempt in flight, and end with 0.
#[tokio::test]
async fn told_to_end_it_finishes_what_it_began() {
    tokio::join!(ends_well("TERM"), ends_well("INT"));
}

async fn ends_well(signal: &str) {
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let (mut place, Served { process, base }, caller) =
        place(&receiver, &[("WEFT_SHUTDOWN__UNREADY", "5s")]).await;
    let first = caller.accepted(event(1)).await;
    receiver.received(1).await;

    // A request whose second half comes when nobody listens any more.
    let address = base.strip_prefix("http://").expect("a base");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let body = event(2).to_string();
    let (key, length) = (&caller.workspace().publishable_key, body.len());
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         x-meshes-publishable-key: {key}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream.write_all(&body.as_bytes()[..5]).await.expect("it reads");

    process.signal(signal);
    let unready = until("readiness is withdrawn", async || {
        let ready = send(caller.request(Method::GET, "/readyz")).await;
        (ready.status != 200).then_some(ready)
    })
    .await;
    assert_eq!(unready.status, 503, "{signal}: {unready:?}");
    assert!(unready.text.contains("shutting down"), "{signal}: {unready:?}");
    let third = caller.accepted(event(3)).await;
    until("it stops listening", async || TcpStream::connect(address).await.err()).await;

    stream.write_all(&body.as_bytes()[5..]).await.expect("it reads on");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers, and closes the connection");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{signal}: {answer}");

    open.send_replace(true);
    let exit = process.wait().await;
    assert_eq!(exit.code, Some(0), "{signal}: {exit:#?}");
    assert!(exit.lines.iter().any(|line| logged("ended")(line).is_some()), "{signal}: {exit:#?}");

    place.set("WEFT_SHUTDOWN__UNREADY", "0s");
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &caller.account);
    for id in [&first, &third] {
        let shown = caller.completed(id).await;
        assert_eq!(shown["rule_events"][0]["attempt_count"], 1, "{signal}: it was waited for: {shown}");
    }
    let received = receiver.received(3).await;
    let mut numbers: Vec<_> =
        received.iter().map(|received| received.json()["payload"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)], "{signal}: each once");
    served.stop().await;
}

/// I19: an attempt that does not come back in time is given up, the process ends with 0 all the same, and the
/// delivery is made after the next start.
#[tokio::test]
async fn what_does_not_come_back_in_time_is_delivered_after_the_next_start() {
    let (_closed, gate) = watch::channel(false);
    let hangs_once =
        move |n, _: &_| if n == 0 { Reply::status(200).behind(&gate) } else { Reply::status(200) };
    let receiver = Receiver::start(hangs_once).await;
    let (place, Served { process, .. }, caller) =
        place(&receiver, &[("WEFT_SHUTDOWN__DRAIN", "500ms")]).await;
    let id = caller.accepted(event(1)).await;
    let first = receiver.received(1).await.remove(0);

    process.terminate();
    let exit = process.wait().await;
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    assert!(exit.lines.iter().any(|line| line.contains("gave up what was still in flight")), "{exit:#?}");
    let (code, found) = place.verify().await;
    assert_eq!((code, &found["scheduled"]), (Some(0), &json!(1)), "{found}");

    let served = place.serve().await;
    let again = receiver.received(2).await.remove(1);
    for header in ["x-weft-delivery-id", "x-weft-attempt"] {
        assert_eq!(
            again.header(header),
            first.header(header),
            "the attempt that was given up does not count"
        );
    }
    Caller::new(&served.base, &caller.account).completed(&id).await;
    served.stop().await;
}

/// I19: a second signal ends it at once, whatever it still waits for, and says so; nothing is lost by it.
#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let (_closed, gate) = watch::channel(false);
    let hangs_once =
        move |n, _: &_| if n == 0 { Reply::status(200).behind(&gate) } else { Reply::status(200) };
    let receiver = Receiver::start(hangs_once).await;
    // Longer than this test is patient.
    let (place, Served { process, .. }, caller) = place(&receiver, &[("WEFT_SHUTDOWN__DRAIN", "10m")]).await;
    let id = caller.accepted(event(1)).await;
    receiver.received(1).await;

    process.terminate();
    process.line("that it shuts down", logged("shutting down")).await;
    process.signal("INT");
    let exit = process.wait().await;
    assert_eq!(exit.code, Some(2), "{exit:#?}");
    assert!(exit.lines.iter().any(|line| line.contains("told twice: ending at once")), "{exit:#?}");

    let served = place.serve().await;
    receiver.received(2).await;
    Caller::new(&served.base, &caller.account).completed(&id).await;
    served.stop().await;
}
