//! How a connection ends: what is sent, and how the end reads to people.

use super::table::Farewell;
use crate::status::{CloseReason, Origin};
use crate::wire::{Cease, MessageKind, Notification, WireError, code};

/// What comes with an input.
pub(super) enum Cause {
    None,
    /// What we have to say, and more about it for people.
    Give(Notification, Option<String>),
    /// The peer said it.
    Told(Notification),
    /// TCP's words.
    Transport(String),
    /// A message of this type where it may not be.
    Message(MessageKind),
}

impl Cause {
    pub(super) fn defect(error: &WireError) -> Self {
        Cause::Give(error.notification(), Some(error.to_string()))
    }
}

pub(super) fn lost_collision() -> Cause {
    Cause::Give(Notification::cease(Cease::ConnectionCollisionResolution, ""), None)
}

pub(super) fn transport(text: &str) -> CloseReason {
    CloseReason { origin: Origin::Transport, code: None, text: text.to_owned() }
}

/// What we send, if anything, and how the end reads.
pub(super) fn last_words(farewell: Farewell, cause: Cause) -> (Option<Notification>, Option<CloseReason>) {
    let local = |notification: Notification, detail: Option<String>| {
        let mut text = notification.describe();
        if let Some(detail) = detail {
            text = format!("{text}: {detail}");
        }
        let code = Some((notification.code(), notification.subcode()));
        (Some(notification), Some(CloseReason { origin: Origin::Local, code, text }))
    };
    match (farewell, cause) {
        (Farewell::Given, Cause::Give(notification, detail)) => local(notification, detail),
        (Farewell::HoldTimer, _) => local(Notification::new(code::HOLD_TIMER, 0, Vec::new()), None),
        (Farewell::SendHoldTimer, _) => local(
            Notification::new(code::SEND_HOLD_TIMER, 0, Vec::new()),
            Some("the peer does not take what we send".to_owned()),
        ),
        (Farewell::Unexpected(subcode), cause) => {
            let data = match cause {
                Cause::Message(kind) => vec![kind as u8],
                Cause::None | Cause::Give(..) | Cause::Told(_) | Cause::Transport(_) => Vec::new(),
            };
            local(Notification::new(code::FSM, subcode, data), None)
        }
        (Farewell::Silent, Cause::Told(notification)) => {
            let code = Some((notification.code(), notification.subcode()));
            let text = notification.describe();
            (None, Some(CloseReason { origin: Origin::Remote, code, text }))
        }
        (Farewell::Silent, Cause::Transport(text)) => (None, Some(transport(&text))),
        (Farewell::Silent | Farewell::Given, _) => (None, None),
    }
}
