//! `contrail-lb demo`: the main job with nothing installed and no root, on loopback addresses of its own.
//!
//! One process tree: this process plays the nine service instances and the router; its child is the real `contrail-lb run`
//! with a real configuration file. Keys (or lines on standard input) break instances; the screen shows what the load
//! balancer and the router make of it. It must leave nothing behind: the child dies with us, the folder is removed.

mod child;
mod mock;
mod router;
mod screen;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Exit;
use child::Child;
use mock::{Instance, Mood};
use router::Router;
use screen::{Action, Screen, View};

const SERVICES: [(&str, u16); 3] =
    [("contrail-api", 8082), ("contrail-discovery", 5998), ("contrail-analytics-api", 8081)];
const INSTANCES: u8 = 3;
const BGP_PORT: u16 = 1790;
/// How often the load balancer is asked what it thinks.
const REFRESH: Duration = Duration::from_millis(400);

/// Runs the demo until `q`, Ctrl-C or SIGTERM.
pub fn demo() -> Exit {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("contrail-lb demo: {error:#}");
            Exit::System
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let mut child = Child::start(&stage.folder.path().join("contrail-lb.toml"), &stage.log())?;
    let mut screen = Screen::open();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut refresh = tokio::time::interval(REFRESH);
    let outcome = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            status = child.wait() => {
                break Err(anyhow::anyhow!("contrail-lb ended ({status}); its log:\n{}", tail(&stage.log(), 20)));
            }
            () = stage.router.changed() => {}
            _ = refresh.tick() => {}
            action = screen.action() => match action {
                Action::Quit => break Ok(()),
                Action::Set(which, mood) => stage.set(which, mood),
                Action::Redraw => {}
            },
        }
        screen.show(&stage.view().await);
    };
    drop(screen);
    child.stop().await;
    outcome
}

/// Everything around the load balancer.
struct Stage {
    net: u8,
    folder: tempfile::TempDir,
    instances: Vec<Instance>,
    router: Router,
}

impl Stage {
    /// Takes the first loopback network 127.N.0.0/16 on which every port is free.
    async fn build() -> anyhow::Result<Stage> {
        let folder = tempfile::Builder::new().prefix("contrail-lb-demo-").tempdir()?;
        let mut last = None;
        for net in 84..=120 {
            match listeners(net).await {
                Ok((instances, router)) => {
                    let stage = Stage {
                        net,
                        folder,
                        instances: instances
                            .into_iter()
                            .map(|(service, address, listener)| Instance::start(service, address, listener))
                            .collect(),
                        router: Router::start(router, host(net, 14, 254)),
                    };
                    let file = stage.folder.path().join("contrail-lb.toml");
                    std::fs::write(&file, configuration(net, &stage.socket()))
                        .with_context(|| format!("cannot write {}", file.display()))?;
                    return Ok(stage);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no network tried")))
            .context("no loopback network 127.84.0.0 to 127.120.0.0 with free ports")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("contrail-lb.log")
    }

    fn set(&self, which: Option<usize>, mood: Mood) {
        for (index, instance) in self.instances.iter().enumerate() {
            if which.is_none_or(|wanted| wanted == index) {
                instance.set_mood(mood);
            }
        }
    }

    async fn view(&self) -> View<'_> {
        View {
            vip: host(self.net, 13, 100),
            admin: SocketAddr::new(IpAddr::V4(host(self.net, 14, 11)), 5937),
            program: std::env::args().next().unwrap_or_else(|| "contrail-lb".into()),
            socket: self.socket(),
            instances: &self.instances,
            learnt: self.router.learnt(),
            status: status(&self.socket()).await,
            log: tail(&self.log(), 8),
        }
    }
}

type Listeners = (Vec<(&'static str, SocketAddr, TcpListener)>, TcpListener);

async fn listeners(net: u8) -> io::Result<Listeners> {
    let mut instances = Vec::new();
    for (service, port) in SERVICES {
        for instance in 1..=INSTANCES {
            let address = SocketAddr::from((host(net, 14, instance), port));
            instances.push((service, address, TcpListener::bind(address).await?));
        }
        // Free for the load balancer too?
        TcpListener::bind((host(net, 13, 100), port)).await?;
    }
    TcpListener::bind((host(net, 14, 11), 5937)).await?;
    Ok((instances, TcpListener::bind((host(net, 14, 254), BGP_PORT)).await?))
}

fn host(net: u8, third: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, net, third, last)
}

/// The long form, so that checks are quick and speak HTTP: a hung instance still accepts TCP.
fn configuration(net: u8, socket: &Path) -> String {
    let vip = host(net, 13, 100);
    let own = host(net, 14, 11);
    let router = host(net, 14, 254);
    let router_as = router::ROUTER_AS;
    let mut file = format!(
        r#"[admin]
socket = "{socket}"
listen = "{own}:5937"

[bgp]
local_as  = 64512
router_id = "10.84.14.11"

[[bgp.peer]]
name          = "router"
address       = "{router}"
port          = {BGP_PORT}
remote_as     = {router_as}
local_address = "{own}"

[[vip]]
address        = "{vip}"
interface      = ""
announce_delay = "2s"
"#,
        socket = socket.display(),
    );
    for (service, port) in SERVICES {
        file.push_str(&format!(
            "\n[[service]]\nname = \"{service}\"\nvip = \"{vip}\"\nports = [{port}]\n\
             check = {{ kind = \"http\", path = \"/\", interval = \"500ms\", timeout = \"500ms\", fall = 2 }}\n"
        ));
        for instance in 1..=INSTANCES {
            let address = host(net, 14, instance);
            file.push_str(&format!(
                "[[service.backend]]\nname = \"ctrl-{instance}\"\naddress = \"{address}:{port}\"\n"
            ));
        }
    }
    file
}

/// What the load balancer says of itself; `None` while it does not answer.
async fn status(socket: &Path) -> Option<serde_json::Value> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let asked = async {
        let mut stream = tokio::net::UnixStream::connect(socket).await?;
        stream.write_all(b"show status json\n").await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        io::Result::Ok(reply)
    };
    let reply = tokio::time::timeout(REFRESH, asked).await.ok()?.ok()?;
    serde_json::from_str(&reply).ok()
}

/// The last lines of a file.
fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
