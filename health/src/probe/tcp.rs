//! `kind = "tcp"`: the handshake completes.

use super::Attempt;
use crate::outcome::{Outcome, Verdict};

pub(super) async fn attempt(attempt: Attempt) -> Outcome {
    match attempt.connect().await {
        Ok(_stream) => {
            let detail = format!("connect to {}: accepted in {}", attempt.address, attempt.took());
            attempt.ended(Verdict::Passed, detail)
        }
        Err(outcome) => outcome,
    }
}
