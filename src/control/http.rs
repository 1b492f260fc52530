//! HTTP on `admin.listen`: health, readiness, metrics and the JSON API. Reads only.
//!
//! One task per connection, at most [`MAX_CONNECTIONS`] at once, header size and time bounded. `/healthz` and `/readyz`
//! never ask for a password: orchestrators have none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::metrics;
use crate::app::Daemon;

const MAX_CONNECTIONS: usize = 128;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_HEADER_BYTES: usize = 16 * 1024;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Why `admin.listen` could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen {address}: cannot listen: {source}; is another program on that port?")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Why there is no password to ask for.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error(
        "admin.password_file {file}: cannot read: {source}; make it readable, or remove `user` and `password_file`"
    )]
    Unreadable { file: String, source: std::io::Error },
    #[error(
        "admin.password_file {file}: is empty and would let everybody in; write a password into its first line"
    )]
    Empty { file: String },
}

/// What a request needs to be let in: `user:password`, base64, as it stands in the header.
#[derive(Clone)]
pub struct Credentials(String);

impl Credentials {
    pub fn new(user: &str, password: &str) -> Self {
        Credentials(base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    }

    /// Reads the password file; white space at its end is ignored.
    pub fn read(auth: &config::AdminAuth) -> Result<Self, PasswordError> {
        let file = auth.password_file.display().to_string();
        let text = std::fs::read_to_string(&auth.password_file)
            .map_err(|source| PasswordError::Unreadable { file: file.clone(), source })?;
        match text.trim_end() {
            "" => Err(PasswordError::Empty { file }),
            password => Ok(Credentials::new(&auth.user, password)),
        }
    }

    /// Compares in a time that does not tell how much of it was right.
    fn admits(&self, header: Option<&str>) -> bool {
        let offered = header.and_then(|h| h.strip_prefix("Basic ")).unwrap_or_default().as_bytes();
        let wanted = self.0.as_bytes();
        let differing = offered.iter().zip(wanted).fold(0, |all, (a, b)| all | (a ^ b));
        offered.len() == wanted.len() && differing == 0
    }
}

/// Opens `address`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::interval_at(tokio::time::Instant::now() + HEADER_TIMEOUT, HEADER_TIMEOUT)
                .tick()
                .await;
            continue;
        };
        let daemon = Arc::clone(&daemon);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let daemon = Arc::clone(&daemon);
                async move { Ok::<_, Infallible>(answer(&request, daemon.credentials().as_ref(), &daemon).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off or speaks no HTTP is its own affair.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(slot);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    credentials: Option<&Credentials>,
    daemon: &Arc<Daemon>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
    }
    let path = request.uri().path();
    let open = matches!(path, "/healthz" | "/readyz");
    let offered = request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    if !open && credentials.is_some_and(|c| !c.admits(offered)) {
        let mut refused = reply(StatusCode::UNAUTHORIZED, TEXT, "user and password, please\n".into());
        let realm = hyper::header::HeaderValue::from_static("Basic realm=\"contrail-lb\"");
        refused.headers_mut().insert(WWW_AUTHENTICATE, realm);
        return refused;
    }
    match path {
        "/" => reply(StatusCode::OK, TEXT, INDEX.into()),
        "/healthz" => healthz(daemon).await,
        "/readyz" => readyz(daemon).await,
        "/metrics" => match daemon.status().await {
            Ok(status) => reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(daemon, &status)),
            Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
        },
        "/api/v1/status" => view(daemon.status().await),
        "/api/v1/services" => view(daemon.status().await.map(|s| s.services)),
        "/api/v1/vips" => view(daemon.status().await.map(|s| s.vips)),
        "/api/v1/bgp/peers" => view(Ok(daemon.bgp())),
        _ => reply(StatusCode::NOT_FOUND, TEXT, format!("nothing here; there is:\n{INDEX}")),
    }
}

const INDEX: &str =
    "/healthz\n/readyz\n/metrics\n/api/v1/status\n/api/v1/services\n/api/v1/vips\n/api/v1/bgp/peers\n";

/// Alive: the steering task answers in time and the data plane turns.
async fn healthz(daemon: &Arc<Daemon>) -> Response<Full<Bytes>> {
    match daemon.status().await {
        Ok(_) => reply(StatusCode::OK, TEXT, "ok\n".into()),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

async fn readyz(daemon: &Arc<Daemon>) -> Response<Full<Bytes>> {
    match daemon.status().await {
        Ok(status) if status.ready => reply(StatusCode::OK, TEXT, "ready\n".into()),
        Ok(status) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, status.not_ready.join("\n") + "\n"),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

fn view<T: serde::Serialize>(value: Result<T, crate::app::Unresponsive>) -> Response<Full<Bytes>> {
    let body =
        value.map_err(|e| e.to_string()).and_then(|v| serde_json::to_string(&v).map_err(|e| e.to_string()));
    match body {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_user_and_password_are_admitted() {
        let credentials = Credentials::new("haproxy", "contrail123");
        assert!(credentials.admits(Some("Basic aGFwcm94eTpjb250cmFpbDEyMw==")));
        for wrong in
            [None, Some(""), Some("Basic "), Some("Basic aGFwcm94eTpjb250cmFpbDEyMg=="), Some("Bearer x")]
        {
            assert!(!credentials.admits(wrong), "{wrong:?}");
        }
    }
}
