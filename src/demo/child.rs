//! The real load balancer as a child process that cannot outlive the demo.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

/// Longest wait for the planned stop before the child is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Child(tokio::process::Child);

impl Child {
    /// Starts `contrail-lb run` on `config`, its log in `log`.
    pub fn start(config: &Path, log: &Path) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        tokio::process::Command::new(&program)
            .args(["run", "--end-with-parent", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Its own group: Ctrl-C reaches the demo alone, which then stops the child in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map(Child)
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// Resolves when the child has ended by itself.
    pub async fn wait(&mut self) -> String {
        match self.0.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ctrl-C semantics: the child stops now (route withdrawn, session closed), killed if it does not.
    pub async fn stop(mut self) {
        let pid = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // Fails only when the child has ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            let _ = tokio::time::timeout(STOP_TIMEOUT, self.0.wait()).await;
        }
        let _ = self.0.kill().await;
    }
}
