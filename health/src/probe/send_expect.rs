//! `kind = "send_expect"`: step by step, something is sent and something is waited for, text or binary.
//!
//! Bounds: [`MAX_ANSWER`] octets a step, within the attempt's timeout. What came beyond a step's match counts for the next.

use config::SendExpect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Ending;
use super::stream::Io;
use crate::agent::quotable;
use crate::outcome::CheckStatus;

const MAX_ANSWER: usize = 64 * 1024;

pub(super) async fn run(mut stream: impl Io, steps: &[SendExpect]) -> Ending {
    let mut answer = Vec::new();
    for (step, number) in steps.iter().zip(1..) {
        if let Err(ending) = take(&mut stream, step, &mut answer).await {
            let words = format!("step {number} of {}: {}", steps.len(), ending.words);
            return Ending { words, ..ending };
        }
    }
    Ending::new(CheckStatus::AnswerGood, "as expected")
}

/// Leaves in `answer` what came after the match.
async fn take(stream: &mut impl Io, step: &SendExpect, answer: &mut Vec<u8>) -> Result<(), Ending> {
    let SendExpect { send, expect } = step;
    stream.write_all(send).await.map_err(|error| Ending::broken(&error))?;
    stream.flush().await.map_err(|error| Ending::broken(&error))?;
    let mut searched = 0;
    loop {
        if let Some(end) = find_end(answer, expect, searched) {
            answer.drain(..end);
            return Ok(());
        }
        searched = answer.len();
        let without = || format!("without \"{}\"", quotable(expect));
        if answer.len() >= MAX_ANSWER {
            let words = format!("{} KiB {}", MAX_ANSWER / 1024, without());
            return Err(Ending::new(CheckStatus::AnswerWrong, words));
        }
        match stream.read_buf(answer).await {
            Ok(0) => {
                let words = format!("\"{}\" {}, then closed", quotable(answer), without());
                return Err(Ending::new(CheckStatus::AnswerWrong, words));
            }
            Ok(_) => {}
            Err(error) => return Err(Ending::broken(&error)),
        }
    }
}

/// Where the first match ends. `searched` octets were searched before in vain: only in their tail can one begin.
pub(super) fn find_end(answer: &[u8], expect: &[u8], searched: usize) -> Option<usize> {
    if expect.is_empty() {
        return Some(0);
    }
    let begin = searched.saturating_sub(expect.len() - 1);
    let found = answer.get(begin..)?.windows(expect.len()).position(|w| w == expect)?;
    Some(begin + found + expect.len())
}
