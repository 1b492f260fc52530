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

    /// What a peer can cause as often as it likes: takes at most half of the queue, so that what matters finds room.
    pub(crate) fn remark(&self, event: PeerEvent) {
        if self.events.capacity() > self.events.max_capacity() / 2 {
            self.emit(event);
        } else {
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

#[cfg(test)]
mod tests {
    use config::Family;

    use super::*;

    fn status() -> PeerStatus {
        let text = r#"
            [bgp]
            local_as = 64512
            router_id = "192.0.2.9"
            [[bgp.peer]]
            name = "tor-a"
            address = "192.0.2.1"
            remote_as = 64500
            families = ["ipv4"]
            [[service]]
            name = "s"
            listen = ["127.0.0.1:1"]
            backend = [{ address = "127.0.0.1:2" }]
        "#;
        let bgp = config::parse(text, "test").unwrap().config.bgp.unwrap();
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        PeerStatus::new(&bgp.peers[0], std::time::Instant::now())
    }

    #[test]
    fn remarks_leave_room_for_what_matters() {
        let (events, mut queue) = mpsc::channel(8);
        let observer = Observer::new(status(), events);
        let peer = observer.name().clone();
        for _ in 0..100 {
            observer.remark(PeerEvent::RefreshRequested { peer: peer.clone(), family: Family::Ipv4 });
        }
        let reason = CloseReason { origin: Origin::Transport, code: None, text: "gone".into() };
        observer.emit(PeerEvent::Down { peer, reason });
        let mut received = Vec::new();
        while let Ok(event) = queue.try_recv() {
            received.push(event);
        }
        assert!(matches!(received.last(), Some(PeerEvent::Down { .. })));
        assert_eq!((received.len(), observer.snapshot().events_dropped), (5, 96));
    }
}
