use std::{env, path::Path, process::Stdio};

use anyhow::Context;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::wait::TIMEOUT;

/// A program on an official SDK of Lark, which writes each step as one line of JSON. Dropping it kills the program.
///
/// The SDKs need `eval "$(scripts/sdk-setup)" && export LARKAUTH_SDK_PYTHON LARKAUTH_SDK_NODE`.
pub struct SdkProgram {
    _process: Child,
    steps: Lines<BufReader<ChildStdout>>,
}

impl SdkProgram {
    /// Starts a script of `crates/lark-sim/sdk`.
    ///
    /// # Errors
    /// When the SDK is not installed or the program does not start.
    pub fn start(script: &str, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let is_python = Path::new(script).extension().is_some_and(|extension| extension == "py");
        let program = if is_python { variable("LARKAUTH_SDK_PYTHON")? } else { "node".to_owned() };
        if !is_python {
            variable("LARKAUTH_SDK_NODE")?;
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lark-sim/sdk");
        let mut process = Command::new(&program)
            .arg(scripts.join(script))
            .envs(env.iter().copied())
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} does not start: run scripts/sdk-setup"))?;
        let steps = BufReader::new(process.stdout.take().context("its output")?).lines();
        Ok(Self { _process: process, steps })
    }

    /// Waits for the next step of this name.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn step(&mut self, name: &str) -> anyhow::Result<Value> {
        let find = async {
            while let Some(line) = self.steps.next_line().await? {
                // An SDK may print lines of its own.
                let step: Value = serde_json::from_str(&line).unwrap_or_default();
                if step["step"] == name {
                    return Ok(step);
                }
                anyhow::ensure!(step["step"] != "refused", "the program refused a request: {step}");
            }
            anyhow::bail!("the program ended without {name}")
        };
        tokio::time::timeout(2 * TIMEOUT, find).await.with_context(|| format!("no {name}"))?
    }
}

fn variable(name: &str) -> anyhow::Result<String> {
    env::var(name)
        .with_context(|| format!("{name} is not set: run `eval \"$(scripts/sdk-setup)\"` and export it"))
}
