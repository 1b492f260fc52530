//! `kind = "http"` and `"https"`: one request on a connection of its own; status and, where asked for, a text in the body
//! decide.
//!
//! Bounds: at most [`MAX_HEAD`] octets and hyper's 100 lines of header, [`MAX_BODY`] octets of body, and the stream's bound
//! for all of it, within the attempt's timeout. The body is read only if a text is expected in it, and only until the
//! text is found.

use std::pin::pin;

use bytes::Bytes;
use config::{Endpoint, HttpCheck};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;

use super::Ending;
use super::send_expect::find_end;
use super::stream::Io;
use crate::outcome::CheckStatus;

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;

/// What is asked and what is expected.
#[derive(Debug)]
pub(super) struct Exchange {
    check: HttpCheck,
    /// Its error in words, if it cannot be built.
    request: Result<Request<Empty<Bytes>>, String>,
}

impl Exchange {
    pub(super) fn new(check: &HttpCheck, endpoint: &Endpoint) -> Self {
        Exchange { check: check.clone(), request: request(check, endpoint).map_err(|e| e.to_string()) }
    }

    /// Method and path.
    pub(super) fn request_line(&self) -> String {
        format!("{} {}", self.check.method, self.check.path)
    }

    pub(super) async fn run(&self, stream: impl Io) -> Ending {
        match &self.request {
            Ok(request) => exchange(stream, request.clone(), &self.check).await,
            Err(why) => Ending::new(CheckStatus::NotMade, format!("not made, {why},")),
        }
    }
}

fn request(check: &HttpCheck, endpoint: &Endpoint) -> hyper::http::Result<Request<Empty<Bytes>>> {
    let host = match (&check.host, endpoint) {
        (Some(host), _) => host.clone(),
        (None, Endpoint::Tcp(address)) => address.to_string(),
        (None, Endpoint::Unix(_)) => "localhost".into(),
    };
    Request::builder()
        .method(check.method.as_str())
        .uri(check.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, "contrail-lb")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// Runs the connection and the exchange on it.
async fn exchange(stream: impl Io, request: Request<Empty<Bytes>>, check: &HttpCheck) -> Ending {
    let handshake = Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = match handshake {
        Ok(both) => both,
        Err(error) => return broken(&error),
    };
    let mut answer = pin!(answer(sender, request, check));
    tokio::select! {
        ending = &mut answer => ending,
        // The connection may end before its last bytes were looked at; an error it ends with reaches the answer too.
        _ = connection => answer.await,
    }
}

async fn answer(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Ending {
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return broken(&error),
    };
    let code = response.status().as_u16();
    let ending = if !check.expect_status.iter().any(|&(low, high)| (low..=high).contains(&code)) {
        let words = format!("{code}, expected {},", ranges(&check.expect_status));
        Ending::new(CheckStatus::AnswerWrong, words)
    } else if let Some(text) = &check.expect_body {
        let ending = find(response, text).await;
        Ending { words: format!("{code} {}", ending.words), ..ending }
    } else {
        Ending::new(CheckStatus::AnswerGood, code.to_string())
    };
    Ending { code: Some(code), ..ending }
}

/// Reads the body until `text` is found, it ends or [`MAX_BODY`] octets were read.
async fn find(response: Response<Incoming>, text: &str) -> Ending {
    let mut body = response.into_body();
    let mut read = Vec::new();
    let mut searched = 0;
    loop {
        if find_end(&read, text.as_bytes(), searched).is_some() {
            return Ending::new(CheckStatus::AnswerGood, format!("with {text:?}"));
        }
        searched = read.len();
        if read.len() >= MAX_BODY {
            let words = format!("without {text:?} in the first {} KiB of its body,", MAX_BODY / 1024);
            return Ending::new(CheckStatus::AnswerWrong, words);
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                read.extend_from_slice(data.get(..MAX_BODY - read.len()).unwrap_or(&data));
            }
            Some(Err(error)) => {
                let ending = broken(&error);
                return Ending { words: format!("and then {}", ending.words), ..ending };
            }
            None => {
                let words = format!("without {text:?} in its body of {} octets,", read.len());
                return Ending::new(CheckStatus::AnswerWrong, words);
            }
        }
    }
}

fn ranges(status: &[(u16, u16)]) -> String {
    let words =
        status.iter().map(|&(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") });
    words.collect::<Vec<_>>().join(",")
}

/// hyper's error with what caused it: its own text alone hides "connection reset by peer".
fn broken(error: &hyper::Error) -> Ending {
    let words = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause},"),
        None => format!("{error},"),
    };
    Ending::new(CheckStatus::AnswerInvalid, words)
}
