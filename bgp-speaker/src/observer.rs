//! Where a peer's task leaves what can be seen of it: its [`PeerStatus`], which it alone writes, and its events.

use std::sync::Arc;

use config::Name;
use tokio::sync::{mpsc, watch};

use crate::status::{CloseReason, Origin, PeerEvent, PeerStatus};

/// Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    name: Name,
    status: Arc<watch::Sender<PeerStatus>>,
    events: mpsc::Sender<PeerEvent>,
}

impl Observer {
    pub(crate) fn new(status: PeerStatus, events: mpsc::Sender<PeerEvent>) -> Self {
        let name = status.name.clone();
        Observer { name, status: Arc::new(watch::Sender::new(status)), events }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<PeerStatus> {
        self.status.subscribe()
    }

    pub(crate) fn snapshot(&self) -> PeerStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut PeerStatus)) {
        self.status.send_modify(change);
    }

    /// A full queue drops the event and counts it.
    pub(crate) fn emit(&self, event: PeerEvent) {
        if self.events.try_send(event).is_err() {
            self.update(|status| status.events_dropped += 1);
        }
    }

    /// Keeps why a session or attempt ended.
    pub(crate) fn note(&self, reason: &CloseReason) {
        self.update(|status| {
            match reason.origin {
                Origin::Local => status.last_sent = Some(reason.clone()),
                Origin::Remote => status.last_received = Some(reason.clone()),
                Origin::Transport => {}
            }
            status.last_error = Some(reason.clone());
        });
    }
}
