//! `contrail-lb demo`: shows the main job, breaks, recovers, and leaves nothing behind.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::daemon::BINARY;
use crate::common::eventually::eventually;
use crate::common::http::backend_of;
use crate::common::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);

struct Demo(Process);

impl Demo {
    fn start() -> Self {
        Demo(Process::start("demo", &[BINARY, "demo"]))
    }

    /// Waits for a line, printed since `mark`, with all of `parts`; answers the line.
    #[track_caller]
    fn line(&self, mark: usize, parts: &[&str]) -> String {
        let is = |line: &String| parts.iter().all(|part| line.contains(part));
        self.0
            .stdout()
            .wait_since(mark, PATIENCE, is)
            .unwrap_or_else(|| panic!("no line with {parts:?}"))
            .what
    }

    /// Where it keeps its files.
    fn folder(&self) -> PathBuf {
        let line = self.line(0, &["status --socket "]);
        Path::new(line.split("--socket ").nth(1).unwrap().trim()).parent().unwrap().into()
    }

    /// What the user would give to `curl` for the first service.
    fn url(&self) -> SocketAddr {
        let line = self.line(0, &["curl http://", "contrail-api"]);
        let after = line.split("http://").nth(1).unwrap();
        after.split('/').next().unwrap().parse().unwrap()
    }
}

/// Ids of the processes that `id` started.
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

#[test]
fn demo_announces_breaks_recovers_and_leaves_nothing_behind() {
    let mut demo = Demo::start();
    let front = demo.url();
    demo.line(0, &["router", &format!("{}/32", front.ip())]);
    assert!(backend_of(front).unwrap().contains("contrail-api"));

    let mark = demo.0.stdout().len();
    demo.0.type_line("kill 0");
    demo.line(mark, &["router", "no route"]);
    let mark = demo.0.stdout().len();
    demo.0.type_line("revive 0");
    demo.line(mark, &["router", &format!("{}/32", front.ip())]);
    assert!(backend_of(front).unwrap().contains("contrail-api"));

    let folder = demo.folder();
    assert!(folder.is_dir());
    let children = children(demo.0.id());
    assert!(!children.is_empty());

    demo.0.signal(Signal::INT);
    demo.0.wait_code(PATIENCE, 0);
    assert!(!folder.exists(), "{}", folder.display());
    for child in children {
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "child {child} lives on");
    }
    assert!(TcpStream::connect(front).is_err());
}

#[test]
fn killed_demo_takes_its_load_balancer_with_it() {
    let mut demo = Demo::start();
    let (front, folder) = (demo.url(), demo.folder());
    demo.line(0, &["router", "/32"]);
    demo.0.signal(Signal::KILL);
    demo.0.wait_exit(PATIENCE);
    eventually("the load balancer is gone", PATIENCE, || TcpStream::connect(front).is_err());
    // The one thing it could not do any more.
    std::fs::remove_dir_all(folder).unwrap();
}
