//! A mock service instance that can be killed, hung and slowed down: a small HTTP server with a mood.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a slow instance takes for an answer.
const SLOWNESS: Duration = Duration::from_millis(300);

/// What an instance does with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Port closed, connections dropped.
    Killed,
    /// Accepts and never answers.
    Hung,
    /// Answers late.
    Slow,
}

impl Mood {
    pub fn as_str(self) -> &'static str {
        match self {
            Mood::Well => "well",
            Mood::Killed => "killed",
            Mood::Hung => "hung",
            Mood::Slow => "slow",
        }
    }
}

/// One instance of one service.
pub struct Instance {
    pub service: &'static str,
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
}

impl Instance {
    /// Starts serving on `listener`; ends with the runtime.
    pub fn start(service: &'static str, address: SocketAddr, listener: TcpListener) -> Self {
        let (mood, watched) = watch::channel(Mood::Well);
        tokio::spawn(live(service, address, listener, watched));
        Instance { service, address, mood }
    }

    pub fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    pub fn set_mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

/// Serves while alive; while killed the port is closed.
async fn live(
    service: &'static str,
    address: SocketAddr,
    first: TcpListener,
    mut mood: watch::Receiver<Mood>,
) {
    let mut listener = Some(first);
    loop {
        if let Some(open) = listener.take() {
            serve(service, address, &open, &mut mood).await;
        }
        if mood.wait_for(|m| *m != Mood::Killed).await.is_err() {
            return;
        }
        listener = TcpListener::bind(address).await.ok();
        if listener.is_none() && mood.changed().await.is_err() {
            return;
        }
    }
}

/// Returns once killed, with every connection dropped.
async fn serve(
    service: &'static str,
    address: SocketAddr,
    listener: &TcpListener,
    mood: &mut watch::Receiver<Mood>,
) {
    let mut connections = JoinSet::new();
    loop {
        let watched = mood.clone();
        tokio::select! {
            killed = mood.wait_for(|m| *m == Mood::Killed) => {
                drop(killed);
                return;
            }
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(answer(service, address, stream, watched));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(service: &'static str, address: SocketAddr, stream: TcpStream, mood: watch::Receiver<Mood>) {
    let reply = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
        let mut mood = mood.clone();
        async move {
            let now = *mood.borrow();
            match now {
                Mood::Slow => {
                    let late = tokio::time::Instant::now() + SLOWNESS;
                    tokio::time::sleep_until(late).await;
                }
                Mood::Hung => drop(mood.wait_for(|m| *m != Mood::Hung).await),
                Mood::Well | Mood::Killed => {}
            }
            let body = format!("{service} instance {address}\n");
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
        }
    });
    // A client that breaks off is its own affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), reply).await;
}
