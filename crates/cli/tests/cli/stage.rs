use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use larkauth_lark_sim::{Message, Sim, SimApp, SimConfig, SimHandle};
use larkauth_storage::testing::NEEDLES;
use larkauth_storage_sqlite::testing::TestSqlite;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

pub(crate) const APP_ID: &str = "cli_0123456789abcdef";
pub(crate) const APP_SECRET: &str = "simulated-app-secret-0123456789";
/// The key of the storage crate's test cipher.
const ENCRYPTION_KEYS: &str = "test:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A database of its own and an environment that names nothing else.
pub(crate) struct Stage {
    pub(crate) database: TestSqlite,
    pub(crate) env: BTreeMap<String, String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Must have ended like this, and without a secret in what it wrote.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        for secret in NEEDLES.iter().chain([&APP_SECRET, &ENCRYPTION_KEYS]) {
            assert!(!self.out.contains(secret) && !self.err.contains(secret), "{secret} is in {self:?}");
        }
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One document on each line.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let document = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.out.lines().map(document).collect()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let database = TestSqlite::create().await;
        let mut stage = Self { env: BTreeMap::new(), database };
        stage.set("DATABASE_URL", format!("sqlite:{}", stage.database.path().display()));
        stage.set("ENCRYPTION_KEYS", ENCRYPTION_KEYS);
        // Nothing answers there, and no name lookup is needed.
        stage.set("LARK_BASE_URL", "http://127.0.0.1:1");
        stage.set("LARK_ACCOUNTS_URL", "http://127.0.0.1:1");
        stage.set("HTTP_ADDR", "127.0.0.1:0");
        stage
    }

    /// With a simulated Lark that knows the application, and three people.
    pub(crate) async fn with_lark() -> (Self, SimHandle) {
        let mut stage = Self::new().await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let redirect_uri = format!("http://127.0.0.1:{port}/oauth/callback");
        let app = SimApp::new(APP_ID, APP_SECRET).with_redirect_uri(&redirect_uri);
        let sim = Sim::start(SimConfig::default().with_users(3).with_app(app)).await.unwrap();
        stage.set("LARK_BASE_URL", sim.base_url());
        stage.set("LARK_ACCOUNTS_URL", sim.accounts_url());
        stage.set("OAUTH_REDIRECT_URI", redirect_uri);
        stage.set("HTTP_ADDR", format!("127.0.0.1:{port}"));
        let data = stage.database.path().with_file_name("data");
        stage.set("DATA_DIR", data.display().to_string());
        (stage, sim)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.to_owned(), value.into());
    }

    /// Runs a command to its end; the arguments are separated by single blanks.
    pub(crate) async fn run(&self, arguments: &str) -> Ended {
        self.run_with(&arguments.split(' ').collect::<Vec<_>>(), "").await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut process = self.start(arguments).await;
        process.write(input).await;
        process.end().await
    }

    pub(crate) async fn start(&self, arguments: &[&str]) -> Process {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_larkauth")).args(arguments))
    }

    /// Starts a command that was told to ignore SIGHUP, as `nohup` does.
    pub(crate) async fn start_without_hangup(&self, arguments: &[&str]) -> Process {
        let script = "trap '' HUP; exec \"$0\" \"$@\"";
        self.spawn(Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_larkauth")]).args(arguments))
    }

    fn spawn(&self, command: &mut Command) -> Process {
        let mut child = command
            .env_clear()
            .envs(&self.env)
            .envs(std::env::var("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)))
            .current_dir(self.database.path().parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (out, err) = (Arc::default(), Arc::default());
        let mut readers = JoinSet::new();
        readers.spawn(drain(child.stdout.take().unwrap(), Arc::clone(&out)));
        readers.spawn(drain(child.stderr.take().unwrap(), Arc::clone(&err)));
        Process { child, out, err, readers }
    }

    /// `larkauth standalone`, ready.
    pub(crate) async fn standalone(&self) -> Process {
        let process = self.start(&["standalone"]).await;
        process.says("larkauth is running").await;
        process
    }
}

/// A running command; killed when dropped.
pub(crate) struct Process {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: JoinSet<()>,
}

impl Process {
    pub(crate) async fn write(&mut self, input: &str) {
        let mut stdin = self.child.stdin.take().unwrap();
        // Who needs no input may have ended already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    /// Waits until it has written this on standard output.
    pub(crate) async fn says(&self, text: &str) {
        let said = async {
            while !self.out().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(TIMEOUT, said).await.is_err() {
            panic!(
                "does not say {text:?}: {}\n{}",
                self.out(),
                String::from_utf8_lossy(&self.err.lock().unwrap())
            );
        }
    }

    pub(crate) async fn end(mut self) -> Ended {
        let status = timeout(TIMEOUT, self.child.wait()).await;
        let Ok(Ok(status)) = status else { panic!("does not end: {}", self.out()) };
        while self.readers.join_next().await.is_some() {}
        let err = String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned();
        Ended { code: status.code().unwrap_or(-1), out: self.out(), err }
    }

    /// Ends it as a power failure would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop, as an operator does.
    pub(crate) async fn terminate(self) -> Ended {
        self.signal("TERM");
        self.end().await
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success()
        );
    }

    /// Returns a mask of signals of the process, such as `SigIgn`.
    pub(crate) fn signals(&self, mask: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{mask}:"))).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }
}

async fn drain(mut stream: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        into.lock().unwrap().extend_from_slice(&buffer[..length]);
    }
}

/// The n-th person as the application sees them.
pub(crate) fn person(sim: &Sim, n: usize) -> String {
    sim.open_id(APP_ID, &sim.users()[n])
}

/// The person's card, once it is there.
pub(crate) async fn card(sim: &Sim, person: &str) -> Message {
    sim.wait_for_card(person, TIMEOUT, |_| true).await.unwrap()
}

/// The person clicks Authorize and agrees.
pub(crate) async fn agree(sim: &Sim, person: &str) {
    let card = card(sim, person).await;
    let click = sim.click(&card.message_id, "authorize", person).await.unwrap();
    assert!(click.answered, "{click:?}");
    let redirect = sim.consent(&click.url.unwrap(), person).await.unwrap();
    sim.follow(&redirect).await.unwrap();
}
