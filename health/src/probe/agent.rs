//! `kind = "agent"`: one line from HAProxy's agent protocol decides. Its words are [`crate::agent`]'s.
//!
//! The agent is the only check here, so that not reaching it, or not understanding it, is a failed check.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Ending;
use super::stream::Io;
use crate::agent::{self, Agent, MAX_REPLY, Reply};
use crate::outcome::CheckStatus;

pub(super) async fn run(mut stream: impl Io, send: &[u8]) -> Ending {
    if let Err(error) = stream.write_all(send).await {
        return Ending::broken(&error);
    }
    let mut line = Vec::with_capacity(MAX_REPLY);
    let mut rest = stream.take(MAX_REPLY as u64);
    loop {
        match rest.read_buf(&mut line).await {
            Ok(0) if line.len() >= MAX_REPLY => {
                let words = format!("no end of line within {MAX_REPLY} octets");
                return Ending::new(CheckStatus::AnswerInvalid, words);
            }
            Ok(0) => break,
            Ok(_) if line.iter().any(|b| matches!(b, b'\r' | b'\n')) => break,
            Ok(_) => {}
            Err(error) => return Ending::broken(&error),
        }
    }
    match Reply::parse(&line) {
        Ok(reply) => said(reply, &line),
        Err(error) => {
            Ending::new(CheckStatus::AnswerInvalid, format!("\"{}\", {error},", agent::quotable(&line)))
        }
    }
}

fn said(reply: Reply, line: &[u8]) -> Ending {
    let mut agent = Agent::default();
    agent.take(&reply);
    let status = if agent.is_down() { CheckStatus::AnswerWrong } else { CheckStatus::AnswerGood };
    Ending { agent: Some(reply), ..Ending::new(status, format!("\"{}\"", agent::quotable(line))) }
}
