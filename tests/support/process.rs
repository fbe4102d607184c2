//! The `weft` command as a process of its own, which can really be killed.

use super::PATIENCE;
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// A `weft` process at work. It is killed, by its own id, when dropped.
pub struct Process {
    child: Child,
    /// What it wrote so far, standard output and error in one.
    lines: watch::Receiver<Vec<String>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub lines: Vec<String>,
}

impl Process {
    /// Starts the command with these arguments and variables, and no others.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(arguments).env_clear().envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the command runs");
        let (sender, lines) = watch::channel(Vec::new());
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        tokio::spawn(collect(BufReader::new(out), sender.clone()));
        tokio::spawn(collect(BufReader::new(err), sender));
        Self { child, lines }
    }

    /// The first line for which `find` has an answer, and that answer.
    pub async fn line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut lines = self.lines.clone();
        let found = async {
            loop {
                if let Some(found) = lines.borrow_and_update().iter().find_map(|line| find(line)) {
                    return found;
                }
                let ended = lines.changed().await;
                assert!(ended.is_ok(), "it ended without saying {what}: {:#?}", *lines.borrow());
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("not within {PATIENCE:?}: {what}: {:#?}", *self.lines.borrow()),
        }
    }

    /// Where `weft serve --log-format json` says it listens, as `http://127.0.0.1:PORT`.
    pub async fn base(&self) -> String {
        let address = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "serving").then(|| line["address"].as_str().map(str::to_owned))?
        };
        format!("http://{}", self.line("where it serves", address).await)
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it wrote so far.
    pub fn so_far(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Ends it as a power cut would end a process: at once, with no last word.
    pub async fn kill(mut self) -> Exit {
        self.child.start_kill().expect("it runs");
        self.wait().await
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal, by its name without SIG; INT is what Ctrl-C sends.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> Exit {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends in time").expect("it is ours to wait for");
        // All it wrote: the channel closes when both pipes have.
        let _ = timeout(PATIENCE, async { while self.lines.changed().await.is_ok() {} }).await;
        Exit { code: status.code(), lines: self.so_far() }
    }
}

async fn collect(pipe: impl tokio::io::AsyncBufRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut pipe = pipe.lines();
    while let Ok(Some(line)) = pipe.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}
