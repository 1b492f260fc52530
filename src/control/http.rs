//! HTTP on `admin.listen`: health, readiness, metrics and the JSON API. Reads only.
//!
//! One task per connection, one request per connection, everything bounded by [`LIMITS`]: whoever reaches the port can
//! neither keep others out nor make us answer what they do not read. `/healthz` and `/readyz` never ask for a password:
//! orchestrators have none.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::events::EventView;
use super::metrics;
use super::socket::AcceptFailures;
use crate::app::Daemon;
use crate::events::EventId;
use crate::steer::STALL_BOUND;

/// What clients may take of us.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Served at once; one more takes the place of the oldest.
    connections: usize,
    /// From the connection to the end of the request's header.
    header: Duration,
    /// From the connection to the last octet of the answer.
    whole: Duration,
}

const LIMITS: Limits =
    Limits { connections: 128, header: Duration::from_secs(2), whole: Duration::from_secs(10) };
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Between signs of life on a stream of events, so that neither side keeps a dead connection.
const STREAM_PULSE: Duration = Duration::from_secs(15);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What an answer consists of: a text, or events without end.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer that has no end: its connection is not limited in time.
#[derive(Debug, Clone, Copy)]
struct Endless;

/// Why `admin.listen` could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen {address}: cannot listen, is another program on that port?")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Why there is no password to ask for.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("admin.password_file {file}: cannot read, make it readable or remove `user` and `password_file`")]
    Unreadable { file: String, source: std::io::Error },
    #[error(
        "admin.password_file {file}: is empty and would let everybody in; write a password into its first line"
    )]
    Empty { file: String },
}

/// What a request needs to be let in: `user:password`, base64, as it stands in the header.
#[derive(Clone)]
pub struct Credentials(Arc<str>);

impl Credentials {
    fn new(user: &str, password: &str) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Credentials(encoded.into())
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

    /// Compares in a time that does not tell how much of it was right. The scheme may be in any case (RFC 7617 §2).
    fn admits(&self, header: Option<&str>) -> bool {
        let of_basic = |(scheme, offered): (&str, _)| scheme.eq_ignore_ascii_case("Basic").then_some(offered);
        let offered: &str = header.and_then(|h| h.split_once(' ')).and_then(of_basic).unwrap_or_default();
        let offered = offered.trim_start_matches(' ').as_bytes();
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
    let answer = move |request| {
        let daemon = Arc::clone(&daemon);
        async move { answer(&request, daemon.credentials().as_ref(), &daemon).await }
    };
    serve_with(listener, LIMITS, answer).await;
}

async fn serve_with<F>(
    listener: TcpListener,
    limits: Limits,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = Connections::default();
    let mut failures = AcceptFailures::of("admin.listen");
    loop {
        let Some((stream, _)) = failures.look_at(listener.accept().await).await else { continue };
        connections.admit(limits.connections, serve_connection(stream, limits, answer.clone()));
    }
}

/// The connections being served; dropped, it ends them.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Makes room if need be: a newcomer always gets in, at the cost of who has had the most time.
    fn admit(&mut self, limit: usize, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|connection| !connection.is_finished());
        if self.oldest_first.len() >= limit
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(connection));
    }
}

/// Answers one request. What the client sends after it is not read: it costs a connection each.
async fn serve_connection<F>(stream: TcpStream, limits: Limits, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<Body>>,
{
    let is_endless = Arc::new(AtomicBool::new(false));
    let endless = Arc::clone(&is_endless);
    let service = hyper::service::service_fn(move |request| {
        let (answered, endless) = (answer(request), Arc::clone(&endless));
        async move {
            let answer = answered.await;
            endless.store(answer.extensions().get::<Endless>().is_some(), Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or speaks no HTTP is its own affair.
    let mut connection = std::pin::pin!(connection);
    if tokio::time::timeout(limits.whole, connection.as_mut()).await.is_err() && is_endless.load(Relaxed) {
        let _ = connection.await;
    }
}

async fn answer(
    request: &Request<Incoming>,
    credentials: Option<&Credentials>,
    daemon: &Arc<Daemon>,
) -> Response<Body> {
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
        "/api/v1/events" => events(request, daemon).await,
        _ => reply(StatusCode::NOT_FOUND, TEXT, format!("nothing here; there is:\n{INDEX}")),
    }
}

const INDEX: &str = "/healthz\n/readyz\n/metrics\n/api/v1/status\n/api/v1/services\n/api/v1/vips\n/api/v1/bgp/peers\n/api/v1/events\n";

/// `/api/v1/events`: what is remembered, with `after=ID` what came after it, with `follow=true` whatever comes as
/// server-sent events; a browser that connects again says in `Last-Event-ID` what it has seen.
async fn events(request: &Request<Incoming>, daemon: &Arc<Daemon>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let seen = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let after = match seen.or(value("after")).map(str::parse) {
        Some(Ok(id)) => EventId(id),
        None => EventId::NONE,
        Some(Err(_)) => return reply(StatusCode::BAD_REQUEST, TEXT, "after: the id of an event\n".into()),
    };
    match value("follow") {
        Some("true") => follow(Arc::clone(daemon), after),
        None | Some("false") => view(Ok(daemon.events(after).await)),
        Some(_) => reply(StatusCode::BAD_REQUEST, TEXT, "follow: true or false\n".into()),
    }
}

/// Events as they come. Asked for only when the client has taken those before: who reads slowly is told of what is still
/// remembered by then.
fn follow(daemon: Arc<Daemon>, after: EventId) -> Response<Body> {
    let chunks = stream::unfold((daemon, after), |(daemon, after)| async move {
        daemon.event_after(after, STREAM_PULSE).await;
        let fresh = daemon.events(after).await;
        let after = fresh.last().map_or(after, |event| EventId(event.id));
        let text: String = fresh.iter().map(EventView::server_sent).collect();
        // A comment is the sign of life.
        let text = if text.is_empty() { ":\n\n".to_owned() } else { text };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (daemon, after)))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    let kind = hyper::header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(Endless);
    response
}

/// Alive: the steering task answers in time and the data plane turns.
async fn healthz(daemon: &Arc<Daemon>) -> Response<Body> {
    match daemon.pulse().await {
        Ok(stalest) if stalest > STALL_BOUND => {
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "a data-plane thread hangs: restart\n".into())
        }
        Ok(_) => reply(StatusCode::OK, TEXT, "ok\n".into()),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

async fn readyz(daemon: &Arc<Daemon>) -> Response<Body> {
    match daemon.status().await {
        Ok(status) if status.ready => reply(StatusCode::OK, TEXT, "ready\n".into()),
        Ok(status) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, status.not_ready.join("\n") + "\n"),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

fn view<T: serde::Serialize>(value: Result<T, crate::app::Unresponsive>) -> Response<Body> {
    let body =
        value.map_err(|e| e.to_string()).and_then(|v| serde_json::to_string(&v).map_err(|e| e.to_string()));
    match body {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Longer than any test takes.
    const NEVER: Duration = Duration::from_secs(3600);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

    /// A server that answers `ok`, and how many requests it has answered.
    async fn server(limits: Limits) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        tokio::spawn(serve_with(listener, limits, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                // As with the daemon's, the connection is looked at before the answer is there.
                tokio::task::yield_now().await;
                reply(StatusCode::OK, TEXT, "ok".into())
            }
        }));
        (address, answered)
    }

    async fn read_answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("an end").unwrap();
        answer
    }

    async fn get(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        read_answer(stream).await
    }

    #[tokio::test]
    async fn a_newcomer_gets_in_however_many_silent_connections_there_are() {
        let (address, _) = server(Limits { connections: 4, header: NEVER, whole: NEVER }).await;
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = get(address).await;
        assert!(answer.ends_with("ok"), "{answer}");
        assert_eq!(read_answer(silent.swap_remove(0)).await, "", "the oldest made room");
    }

    #[tokio::test]
    async fn of_many_requests_on_one_connection_one_is_answered() {
        let (address, answered) = server(LIMITS).await;
        let answer = get(address).await.to_ascii_lowercase();
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Either may end with a reset: not all that was sent is read.
        let _ = stream.write_all(&REQUEST.repeat(1000)).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(answered.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_client_that_half_closes_after_its_request_is_answered() {
        let (address, _) = server(LIMITS).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_answer(stream).await;
        assert!(answer.ends_with("ok"), "{answer}");
    }

    #[tokio::test]
    async fn a_silent_connection_ends_after_the_time_for_a_header_and_any_after_the_whole_time() {
        let soon = Duration::from_millis(20);
        for limits in
            [Limits { header: soon, whole: NEVER, ..LIMITS }, Limits { header: NEVER, whole: soon, ..LIMITS }]
        {
            let (address, _) = server(limits).await;
            read_answer(TcpStream::connect(address).await.unwrap()).await;
        }
    }

    #[test]
    fn only_the_very_same_user_and_password_are_admitted() {
        let credentials = Credentials::new("haproxy", "contrail123");
        for right in ["Basic aGFwcm94eTpjb250cmFpbDEyMw==", "basic  aGFwcm94eTpjb250cmFpbDEyMw=="] {
            assert!(credentials.admits(Some(right)), "{right}");
        }
        for wrong in [
            None,
            Some(""),
            Some("Basic"),
            Some("Basic "),
            Some("Basic aGFwcm94eTpjb250cmFpbDEyMg=="),
            Some("Bearer aGFwcm94eTpjb250cmFpbDEyMw=="),
        ] {
            assert!(!credentials.admits(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_password_file_that_is_missing_or_empty_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        let auth = config::AdminAuth { user: "haproxy".into(), password_file: password_file.clone() };
        let error = || Credentials::read(&auth).err().unwrap().to_string();
        let name = password_file.display().to_string();
        assert!(error().contains(&name) && error().contains("cannot read"), "{}", error());
        std::fs::write(&password_file, " \n").unwrap();
        assert!(error().contains(&name) && error().contains("is empty"), "{}", error());
        std::fs::write(&password_file, "contrail123\n").unwrap();
        let credentials = Credentials::read(&auth).unwrap();
        assert!(credentials.admits(Some("Basic aGFwcm94eTpjb250cmFpbDEyMw==")));
    }
}
