mod talk;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use config::BackendAddr;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::outcome::Verdict;
use crate::testing::{http, target};

/// Longer than any attempt here needs when it does not wait for its timeout.
const LONG: Duration = Duration::from_secs(30);
/// For attempts that are expected to run into it.
const SHORT: Duration = Duration::from_millis(150);

async fn attempt(target: &Target) -> Outcome {
    Probe::new(target, &mut Clients::default()).unwrap().attempt().await
}

async fn check(address: SocketAddr, kind: CheckKind, timeout: Duration) -> Outcome {
    let mut target = target("a", address, kind);
    target.check.timeout = timeout;
    let outcome = attempt(&target).await;
    // A generous bound: what matters is that nothing hangs.
    assert!(outcome.took < timeout + Duration::from_secs(10), "{outcome:?}");
    outcome
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A backend that hands each connection to `serve`.
async fn backend_that<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A backend that hands each connection, once the request is read, to `answer`.
async fn backend<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|n| n > 0)
            {
            }
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// Answers with `bytes` and closes.
async fn saying(bytes: &'static [u8]) -> SocketAddr {
    backend(async move |mut stream: TcpStream| {
        let _ = stream.write_all(bytes).await;
    })
    .await
}

/// Says `first` and then `again` for as long as anybody listens; counts what it got rid of.
async fn endless(first: &'static [u8], again: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let address = backend(move |mut stream: TcpStream| {
        let count = Arc::clone(&count);
        async move {
            let _ = stream.write_all(first).await;
            while stream.write_all(again).await.is_ok() {
                count.fetch_add(again.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    (address, sent)
}

fn expecting(text: &str) -> CheckKind {
    CheckKind::Http(config::HttpCheck { expect_body: Some(text.into()), ..http() })
}

#[track_caller]
fn assert_outcome(outcome: &Outcome, verdict: Verdict, words: &str) {
    assert_eq!(outcome.verdict(), verdict, "{}", outcome.detail);
    assert!(outcome.detail.contains(words), "expected {words:?} in {:?}", outcome.detail);
}

#[tokio::test]
async fn an_open_port_passes() {
    let (_listener, address) = listener().await;
    let outcome = check(address, CheckKind::Tcp, LONG).await;
    assert_outcome(&outcome, Verdict::Passed, &format!("connect to {address}: accepted in "));
    assert!(outcome.detail.ends_with(" ms"));
}

#[tokio::test]
async fn a_tcp_check_closes_with_a_reset() {
    let (listener, address) = listener().await;
    check(address, CheckKind::Tcp, LONG).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let read = stream.read(&mut [0; 1]).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let (listener, address) = listener().await;
    drop(listener);
    for kind in [CheckKind::Tcp, CheckKind::Http(http())] {
        let outcome = check(address, kind, LONG).await;
        assert_outcome(&outcome, Verdict::Failed, &format!("connect to {address}: refused in "));
    }
}

#[tokio::test]
async fn the_checks_own_port_is_used() {
    let (_listener, address) = listener().await;
    let mut target = target("a", SocketAddr::new(address.ip(), 1), CheckKind::Tcp);
    target.check.port = Some(address.port());
    let outcome = attempt(&target).await;
    assert_outcome(&outcome, Verdict::Passed, &address.to_string());
}

#[tokio::test]
async fn an_ipv6_backend_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: no IPv6 loopback here");
        return;
    };
    let outcome = check(listener.local_addr().unwrap(), CheckKind::Tcp, LONG).await;
    assert_outcome(&outcome, Verdict::Passed, "connect to [::1]:");
}

#[tokio::test]
async fn a_backend_that_swallows_every_syn_times_out() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Fill the queue of connections that nobody accepts.
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let outcome = check(address, CheckKind::Tcp, SHORT).await;
    assert_outcome(&outcome, Verdict::Failed, &format!("connect to {address}: no answer within 150ms"));
}

#[tokio::test]
async fn an_http_server_is_asked_for_the_path_with_the_host_and_passes() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, mut requests) = tokio::sync::mpsc::channel(1);
        let answer = service_fn(move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                seen.send(request).await.unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello"))))
            }
        });
        let served =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        let (request, _) = tokio::join!(requests.recv(), served);
        request.unwrap()
    });
    let kind = CheckKind::Http(config::HttpCheck { path: "/health?full".into(), ..http() });
    let outcome = check(address, kind, LONG).await;
    assert_outcome(&outcome, Verdict::Passed, &format!("GET /health?full from {address}: 200 in "));
    let request = server.await.unwrap();
    assert_eq!(request.uri(), "/health?full");
    assert_eq!(request.headers()["host"], address.to_string());
}

#[tokio::test]
async fn an_unexpected_status_fails_and_says_what_was_expected() {
    let address = saying(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    let kind = CheckKind::Http(config::HttpCheck { expect_status: vec![(200, 399), (404, 404)], ..http() });
    let outcome = check(address, kind, LONG).await;
    assert_outcome(
        &outcome,
        Verdict::Failed,
        &format!("GET / from {address}: 503, expected 200-399,404, in "),
    );
}

#[tokio::test]
async fn an_old_server_that_closes_instead_of_giving_a_length_passes() {
    let address = saying(b"HTTP/1.0 200 OK\r\n\r\nall is well").await;
    assert_outcome(&check(address, CheckKind::Http(http()), LONG).await, Verdict::Passed, "200");
    assert_outcome(
        &check(address, expecting("is well"), LONG).await,
        Verdict::Passed,
        "200 with \"is well\"",
    );
}

#[tokio::test]
async fn a_missing_text_fails() {
    let address = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let outcome = check(address, expecting("ready"), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "200 without \"ready\" in its body of 5 octets");
}

#[tokio::test]
async fn a_text_that_comes_in_pieces_is_found() {
    let address = backend(async |mut stream: TcpStream| {
        let pieces =
            [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..], b"2\r\nre\r\n", b"3\r\nady\r\n"];
        for piece in pieces {
            let _ = stream.write_all(piece).await;
        }
        let _ = stream.read(&mut [0; 1]).await; // the end of the body never comes
    })
    .await;
    assert_outcome(&check(address, expecting("ready"), LONG).await, Verdict::Passed, "200 with \"ready\"");
}

#[tokio::test]
async fn a_backend_that_never_answers_times_out() {
    let address = backend(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let outcome = check(address, CheckKind::Http(http()), SHORT).await;
    assert_outcome(&outcome, Verdict::Failed, "connected, but no complete answer within 150ms");
}

#[tokio::test]
async fn a_backend_that_hangs_in_the_middle_of_its_body_times_out() {
    let address = backend(async |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhel").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let outcome = check(address, expecting("ready"), SHORT).await;
    assert_outcome(&outcome, Verdict::Failed, "no complete answer within 150ms");
}

#[tokio::test]
async fn a_trickle_of_header_lines_cannot_stretch_the_timeout() {
    let address = backend(async |mut stream: TcpStream| {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-more: 1\r\n").await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    let outcome = check(address, CheckKind::Http(http()), SHORT).await;
    assert_outcome(&outcome, Verdict::Failed, "no complete answer within 150ms");
}

#[tokio::test]
async fn garbage_is_no_http() {
    let address = saying(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n\r\n").await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "invalid HTTP version");
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_fails() {
    let address = saying(b"").await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "connection closed before message completed");
}

#[tokio::test]
async fn a_reset_fails_and_is_called_so() {
    let address = backend(async |stream: TcpStream| stream.set_zero_linger().unwrap()).await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "Connection reset by peer");
}

#[tokio::test]
async fn a_reset_in_the_middle_of_the_body_fails() {
    let address = backend(async |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhel").await;
    })
    .await;
    let outcome = check(address, expecting("ready"), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "200 and then ");
}

/// What may be on its way in socket buffers when the attempt is over.
const IN_FLIGHT: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn an_endless_header_ends_at_the_bound() {
    let (address, sent) = endless(b"HTTP/1.1 200 OK\r\nx-long: ", &[b'x'; 4096]).await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "message head is too large");
    assert!(sent.load(Ordering::Relaxed) < IN_FLIGHT);
}

#[tokio::test]
async fn an_endless_row_of_header_lines_ends_at_the_bound() {
    let (address, sent) = endless(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n").await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "message head is too large");
    assert!(sent.load(Ordering::Relaxed) < IN_FLIGHT);
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_bound_only_and_only_if_asked_for() {
    let (address, sent) = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).await;
    let outcome = check(address, expecting("ready"), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "200 without \"ready\" in the first 64 KiB of its body");
    assert_outcome(&check(address, CheckKind::Http(http()), LONG).await, Verdict::Passed, "200");
    assert!(sent.load(Ordering::Relaxed) < 2 * IN_FLIGHT);
}

#[tokio::test]
async fn endless_interim_answers_end_at_the_bound() {
    let (address, sent) = endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await;
    let outcome = check(address, CheckKind::Http(http()), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "gave up after 1024 KiB");
    assert!(sent.load(Ordering::Relaxed) < IN_FLIGHT);
}

#[tokio::test]
async fn a_body_of_tiny_chunks_is_searched_once_not_once_per_chunk() {
    const CHUNKS: usize = 60_000;
    let address = backend(async |mut stream: TcpStream| {
        let head = &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..];
        let _ = stream.write_all(&[head, &b"1\r\nx\r\n".repeat(CHUNKS), b"0\r\n\r\n"].concat()).await;
    })
    .await;
    let started = Instant::now();
    let outcome = check(address, expecting("ready"), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, &format!("in its body of {CHUNKS} octets"));
    // Searched whole for each chunk, it is more than a thousand million comparisons.
    assert!(started.elapsed() < Duration::from_secs(5), "{outcome:?}");
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_not_the_backends_fault() {
    let (_listener, address) = listener().await;
    let kind = CheckKind::Http(config::HttpCheck { path: "no path".into(), ..http() });
    assert_outcome(&check(address, kind, LONG).await, Verdict::NotMade, "invalid uri");
}

#[test]
fn a_target_without_an_active_check_is_not_probed() {
    let mut clients = Clients::default();
    let unchecked = target("a", "127.0.0.1:1".parse().unwrap(), CheckKind::None);
    assert!(Probe::new(&unchecked, &mut clients).is_none());
    let unresolved = BackendAddr::Name { host: "api.example.org".into(), port: 8082, answer: None };
    let unresolved =
        Target { address: unresolved, ..target("a", ([127, 0, 0, 1], 1).into(), CheckKind::Tcp) };
    assert!(Probe::new(&unresolved, &mut clients).is_none());
}
