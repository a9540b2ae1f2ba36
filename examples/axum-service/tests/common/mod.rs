//! The service as a process, and a client.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Long enough for anything that ends at all on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The variable by which the processes of a test are told from all others.
const MARK: &str = "NEARCALL_TEST_MARK";

/// A service of its own for a test.
pub(crate) struct Service {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Where the model looks for files.
    folder: TempDir,
    mark: String,
    pub(crate) address: String,
}

impl Service {
    /// Starts it with these settings; `None` where there is no worker to test with.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Option<Self> {
        if std::env::var_os("NEARCALL_WORKER").is_none() {
            eprintln!("SKIPPED: no $NEARCALL_WORKER; `make test` sets it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = [here.join("tests/models"), here.join("../../python/models")];
        let mut child = Command::new(env!("CARGO_BIN_EXE_nearcall-axum-service"))
            .env(MARK, &mark)
            .env("LISTEN", "127.0.0.1:0")
            .env("MODEL", "patient_model:Engine")
            .env("MODEL_PATH", std::env::join_paths(path).unwrap())
            .env("MODEL_INIT", json!({ "folder": folder.path() }).to_string())
            .env("WORKERS", "2")
            .env("DEADLINE_MS", "60000")
            .env("MAX_DEADLINE_MS", "60000")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or(&line).to_owned();
        Some(Self { child, out, folder, mark, address })
    }

    pub(crate) async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    /// A client, if connections are still taken.
    pub(crate) async fn try_client(&self) -> Result<Client, std::io::Error> {
        let stream = TcpStream::connect(&self.address).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Client { sender, connection })
    }

    /// Lets all gates open, or whatever else the model looks for.
    pub(crate) fn write(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The worker that waits at this gate.
    pub(crate) async fn pid_at(&self, gate: &str) -> u32 {
        until("at the gate", async || {
            let text = fs::read_to_string(self.path(gate)).unwrap_or_default();
            text.strip_suffix('\n').and_then(|pid| pid.parse().ok()).ok_or(text)
        })
        .await
    }

    /// Waits until so many slots are in use.
    pub(crate) async fn until_in_use(&self, slots: u64) {
        let mut client = self.client().await;
        until("in use", async || {
            let health: Value = client.get("/health").await.json();
            if health["in_use"] == slots { Ok(()) } else { Err(health.to_string()) }
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end, and makes sure that it leaves nothing. Gives the rest of what it said.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let child = &mut self.child;
        let status = until("ended", async || child.try_wait().unwrap().ok_or(String::new())).await;
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        self.until_nothing_is_left().await;
        (status, said)
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.signal(Signal::SIGTERM);
        let (status, said) = self.ended().await;
        assert!(status.success(), "{status}: {said}");
    }

    async fn until_nothing_is_left(&self) {
        until("gone", async || {
            let left = processes(&self.mark);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

impl Drop for Service {
    /// A test that fails leaves nothing either.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn processes(mark: &str) -> BTreeSet<u32> {
    let wanted = format!("{MARK}={mark}");
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        })
    })
    .collect()
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Waits until a condition holds; panics with its last complaint if it never does.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(complaint) if Instant::now() >= deadline => panic!("not {what}: {complaint}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A connection.
pub(crate) struct Client {
    sender: SendRequest<String>,
    connection: tokio::task::JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The word for what went wrong.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// A request with these strings, and what the answer is.
pub(crate) fn features(text: &str, number: i64) -> String {
    let floats = [1.5, -2.25, 3.0];
    json!({ "float_features": floats, "str_features": [text, "é"], "int_feature": number })
        .to_string()
}

pub(crate) fn score(text: &str, number: i64) -> Value {
    json!({ "value": 6 + text.len() as i64 + 1 + number, "message": "" })
}

impl Client {
    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn try_get(&mut self, path: &str) -> Result<Reply, hyper::Error> {
        let request = Request::builder().uri(path).header(HOST, "test").body(String::new());
        self.send(request.unwrap()).await
    }

    /// Asks for a score.
    pub(crate) async fn score(&mut self, body: String) -> Reply {
        self.score_by(body, None).await
    }

    /// The same with a deadline, in whatever form.
    pub(crate) async fn score_by(&mut self, body: String, deadline: Option<&str>) -> Reply {
        self.post(body, "application/json", deadline).await
    }

    pub(crate) async fn post(&mut self, body: String, kind: &str, deadline: Option<&str>) -> Reply {
        let mut request = Request::builder().method(Method::POST).uri("/score");
        request = request.header(HOST, "test").header(CONTENT_TYPE, kind);
        if let Some(deadline) = deadline {
            request = request.header("X-Deadline-Ms", deadline);
        }
        self.send(request.body(body).unwrap()).await.unwrap()
    }

    async fn send(&mut self, request: Request<String>) -> Result<Reply, hyper::Error> {
        let reply = tokio::time::timeout(2 * PATIENCE, self.exchange(request)).await;
        reply.unwrap_or_else(|_| panic!("no reply after {:?}", 2 * PATIENCE))
    }

    async fn exchange(&mut self, request: Request<String>) -> Result<Reply, hyper::Error> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER);
        let retry_after = header.map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Reply { status, retry_after, body: String::from_utf8(body.to_vec()).unwrap() })
    }
}

impl Drop for Client {
    /// Goes away, in the middle of a request too.
    fn drop(&mut self) {
        self.connection.abort();
    }
}
