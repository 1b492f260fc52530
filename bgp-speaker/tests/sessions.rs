//! Two of our speakers over loopback: sessions, routes, acknowledgements, reload and shutdown.

mod common;

use std::time::Instant;

use bgp_speaker::{PeerEvent, PeerState};
use common::*;

/// `a` (AS 64512) accepts, `b` dials it.
async fn pair() -> (bgp_speaker::Speaker, Events, bgp_speaker::Speaker, Events) {
    let mut a = bgp(64512, [10, 0, 0, 1], &["127.0.1.1:0"]);
    a.peers.push(passive(peer("b", "127.0.1.2:179".parse().unwrap(), 64513)));
    let (a, a_events) = start(&a).await;
    let mut b = bgp(64513, [10, 0, 0, 2], &[]);
    let mut to_a = peer("a", a.listening()[0], 64512);
    to_a.local_address = Some("127.0.1.2".parse().unwrap());
    b.peers.push(to_a);
    let (b, b_events) = start(&b).await;
    (a, a_events, b, b_events)
}

type Events = tokio::sync::mpsc::Receiver<PeerEvent>;

#[tokio::test]
async fn a_dialling_and_a_passive_speaker_establish_and_the_routes_are_acknowledged() {
    let (a, mut a_events, b, _b_events) = pair().await;
    a.set_desired(routes(1, &[("192.0.2.10/32", 100)]));
    let up = event(&mut a_events, |event| match event {
        PeerEvent::Up { negotiated, .. } => Some(negotiated),
        _ => None,
    });
    let negotiated = up.await;
    assert_eq!(negotiated.hold_time, 9);
    assert!(negotiated.as4 && negotiated.enhanced_refresh);
    established(&b, "a").await;
    let settled = a.settled(1, Instant::now() + PATIENCE).await;
    assert_eq!((settled.acked, settled.late), (vec![name("b")], vec![]));
    let status = eventually(&b, "a", |status| status.prefixes_dropped == 1).await;
    assert_eq!(status.updates_malformed, 0);
    a.set_desired(routes(2, &[]));
    let (announced, withdrawn) = event(&mut a_events, |event| match event {
        PeerEvent::Sent { version: 2, announced, withdrawn, .. } => Some((announced, withdrawn)),
        _ => None,
    })
    .await;
    assert_eq!((announced, withdrawn), (vec![], vec!["192.0.2.10/32".parse().unwrap()]));
    event(&mut a_events, |event| {
        matches!(event, PeerEvent::Acked { version: 2, cause: 20, .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_tells_the_peer_why_and_ends_with_no_session() {
    let (a, _a_events, b, mut b_events) = pair().await;
    established(&b, "a").await;
    a.shutdown("maintenance at noon", Instant::now() + PATIENCE).await;
    let reason = event(&mut b_events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason.code, Some((6, 2)));
    assert_eq!(reason.text, "Cease/Administrative Shutdown: maintenance at noon");
    assert_eq!(status(&a, "b").state, PeerState::Idle);
}
