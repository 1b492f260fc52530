//! `kind = "tcp"`: the handshake completes.

use super::Attempt;
use crate::outcome::{Outcome, Verdict};

pub(super) async fn attempt(attempt: Attempt) -> Outcome {
    match attempt.connect().await {
        Ok(_stream) => attempt.ended(Verdict::Passed, &format!("connect to {}", attempt.address), "accepted"),
        Err(outcome) => outcome,
    }
}
