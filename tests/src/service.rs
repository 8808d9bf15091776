use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinSet,
};

use crate::wait::{TIMEOUT, eventually};

/// A binary of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `larkauth-gateway`
    Gateway,
    /// `larkauth-auth-worker`
    AuthWorker,
    /// `larkauth-token-refresher`
    TokenRefresher,
    /// `larkauth`
    Cli,
}

impl Kind {
    /// Returns the path of the binary, built by `cargo build --workspace --bins` into the folder above this test's own.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn binary(self) -> anyhow::Result<PathBuf> {
        let name = match self {
            Self::Gateway => "larkauth-gateway",
            Self::AuthWorker => "larkauth-auth-worker",
            Self::TokenRefresher => "larkauth-token-refresher",
            Self::Cli => "larkauth",
        };
        let mut folder = std::env::current_exe()?;
        folder.pop();
        folder.pop();
        let path = folder.join(name);
        ensure!(
            path.exists(),
            "{} is not built: run `cargo build --workspace --bins`, or scripts/test",
            path.display()
        );
        Ok(path)
    }
}

/// A running process. Dropping it kills the process.
pub struct Service {
    /// Its binary.
    pub kind: Kind,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: JoinSet<()>,
}

impl Service {
    /// Starts the binary with this environment and no other settings.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(kind: Kind, args: &[&str], env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut command = Command::new(kind.binary()?);
        command
            .args(args)
            .env_clear()
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for keep in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(keep) {
                command.env(keep, value);
            }
        }
        let mut child =
            command.kill_on_drop(true).spawn().with_context(|| format!("{kind:?} does not start"))?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = JoinSet::new();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(drain(out, output.clone()));
            readers.spawn(drain(err, output.clone()));
        }
        Ok(Self { kind, child, output, readers })
    }

    /// Returns the output so far, both streams.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock()).into_owned()
    }

    /// Returns the address of its HTTP server, read from its log.
    ///
    /// # Errors
    /// When the process ended or does not log the address.
    pub async fn address(&mut self) -> anyhow::Result<String> {
        let found = eventually(TIMEOUT, async || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{:?} ended with {status}:\n{}", self.kind, self.output());
            }
            Ok(self.output().lines().find_map(listening))
        });
        found.await.with_context(|| "the process does not log its address".to_owned())
    }

    /// Sends `SIGKILL` and returns the output.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn kill(mut self) -> anyhow::Result<String> {
        self.child.kill().await?;
        self.finish_output().await;
        Ok(self.output())
    }

    /// Sends `SIGTERM` and waits for the end. Returns exit status and output.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(mut self) -> anyhow::Result<(ExitStatus, String)> {
        self.signal("TERM")?;
        self.wait().await
    }

    /// Sends a signal by name (`TERM`, `STOP`, `CONT`).
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.id().context("the process has ended")?;
        let status =
            std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
        ensure!(status.success(), "kill -{name} {pid} failed");
        Ok(())
    }

    /// Waits for the end of the process. Returns exit status and output.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn wait(&mut self) -> anyhow::Result<(ExitStatus, String)> {
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait())
            .await
            .with_context(|| format!("{:?} does not end:\n{}", self.kind, self.output()))??;
        self.finish_output().await;
        Ok((status, self.output()))
    }

    async fn finish_output(&mut self) {
        while self.readers.join_next().await.is_some() {}
    }
}

/// Returns the address in the log line that names it, in both formats.
fn listening(line: &str) -> Option<String> {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(line) if line["message"] == "listening" => line["addr"].as_str().map(str::to_owned),
        Ok(_) => None,
        Err(_) => line.split_once("listening addr=")?.1.split_whitespace().next().map(str::to_owned),
    }
}

async fn drain(mut stream: impl AsyncRead + Unpin, output: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        output.lock().extend_from_slice(&buffer[..length]);
    }
}
