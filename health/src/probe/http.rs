//! `kind = "http"`: one request on a connection of its own; status and, where asked for, a text in the body decide.
//!
//! Bounds: at most [`MAX_HEAD`] octets and hyper's 100 lines of header, [`MAX_BODY`] octets of body, [`MAX_RAW`] octets in
//! all, within the attempt's timeout. The body is read only if a text is expected in it, and only until the text is
//! found.

use std::pin::pin;

use bytes::Bytes;
use config::HttpCheck;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::Attempt;
use super::bounded::Bounded;
use crate::outcome::{Outcome, Verdict};

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
/// Of everything that comes back: interim answers and the framing of chunks have no bound of their own.
const MAX_RAW: usize = 1024 * 1024;

pub(super) async fn attempt(attempt: Attempt, check: &HttpCheck) -> Outcome {
    let tried = format!("{} {} from {}", check.method, check.path, attempt.address);
    let request = match request(&attempt, check) {
        Ok(request) => request,
        Err(e) => return attempt.ended(Verdict::NotMade, format!("{tried}: not made, {e}")),
    };
    let stream = match attempt.connect().await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    let (verdict, came_back) =
        match timeout_at(attempt.deadline(), exchange(Bounded::new(stream, MAX_RAW), request, check)).await {
            Ok(Ok(came_back)) => (Verdict::Passed, came_back),
            Ok(Err(came_back)) => (Verdict::Failed, came_back),
            Err(_) => return attempt.timed_out(&format!("{tried}: connected, but no complete answer")),
        };
    attempt.ended(verdict, format!("{tried}: {came_back} ({})", attempt.took()))
}

fn request(attempt: &Attempt, check: &HttpCheck) -> hyper::http::Result<Request<Empty<Bytes>>> {
    let host = check.host.clone().unwrap_or_else(|| attempt.address.to_string());
    Request::builder()
        .method(check.method.as_str())
        .uri(check.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, "contrail-lb")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// Runs the connection and the exchange on it; `Ok` and `Err` say what came back.
async fn exchange(
    stream: Bounded<TcpStream>,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Result<String, String> {
    let handshake = Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|e| in_words(&e))?;
    let mut answer = pin!(answer(sender, request, check));
    tokio::select! {
        verdict = &mut answer => verdict,
        // The connection may end before its last bytes were looked at; an error it ends with reaches the answer too.
        _ = connection => answer.await,
    }
}

async fn answer(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Result<String, String> {
    let response = sender.send_request(request).await.map_err(|e| in_words(&e))?;
    let status = response.status().as_u16();
    if !check.expect_status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
        return Err(format!("{status}, expected {}", ranges(&check.expect_status)));
    }
    match &check.expect_body {
        None => Ok(status.to_string()),
        Some(text) => find(response, text).await.map(|()| format!("{status} with {text:?}")),
    }
}

/// Reads the body until `text` is found, it ends or [`MAX_BODY`] octets were read.
async fn find(response: Response<Incoming>, text: &str) -> Result<(), String> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut read = Vec::new();
    let mut searched = 0usize;
    loop {
        // What was searched before ends in less than the whole text: only there can it begin.
        let begin = searched.saturating_sub(text.len().saturating_sub(1));
        if contains(read.get(begin..).unwrap_or_default(), text.as_bytes()) {
            return Ok(());
        }
        searched = read.len();
        if read.len() >= MAX_BODY {
            return Err(format!(
                "{status} without {text:?} in the first {} KiB of its body",
                MAX_BODY / 1024
            ));
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                read.extend_from_slice(data.get(..MAX_BODY - read.len()).unwrap_or(&data));
            }
            Some(Err(e)) => return Err(format!("{status}, then {}", in_words(&e))),
            None => return Err(format!("{status} without {text:?} in its body of {} octets", read.len())),
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|w| w == needle)
}

fn ranges(status: &[(u16, u16)]) -> String {
    let words =
        status.iter().map(|&(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") });
    words.collect::<Vec<_>>().join(",")
}

/// hyper's error with what caused it: its own text alone hides "connection reset by peer".
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
