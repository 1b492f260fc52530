//! `kind = "agent"` and `kind = "send_expect"`, PROXY headers, and addresses that are no IP address.

use config::{Endpoint, SendExpect};
use tokio::net::UnixListener;

use super::*;
use crate::agent::{AgentAdmin, Condition};

fn agent() -> CheckKind {
    CheckKind::Agent { send: Vec::new() }
}

fn steps(steps: &[(&[u8], &[u8])]) -> CheckKind {
    let step = |(send, expect): &(&[u8], &[u8])| SendExpect { send: send.to_vec(), expect: expect.to_vec() };
    CheckKind::SendExpect(steps.iter().map(step).collect())
}

/// Says so to everyone and closes.
async fn greeting(bytes: &'static [u8]) -> SocketAddr {
    backend_that(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await
}

#[tokio::test]
async fn an_agents_line_decides_and_is_quoted() {
    let address = greeting(b"up ready 75% maxconn:30\n").await;
    let outcome = check(address, agent(), LONG).await;
    let words = format!("agent at {address}: \"up ready 75% maxconn:30\" in ");
    assert_outcome(&outcome, Verdict::Passed, &words);
    let reply = outcome.agent.unwrap();
    assert_eq!((reply.condition, reply.admin), (Some(Condition::Up), Some(AgentAdmin::Ready)));
    assert_eq!((reply.weight_percent, reply.max_connections), (Some(75), Some(30)));

    let outcome = check(greeting(b"down # disk full\r\n").await, agent(), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "\"down # disk full\"");
    assert_eq!(outcome.status, CheckStatus::AnswerWrong);
}

#[tokio::test]
async fn an_agent_that_closes_without_a_line_end_is_understood() {
    assert_outcome(&check(greeting(b"drain").await, agent(), LONG).await, Verdict::Passed, "\"drain\"");
}

#[tokio::test]
async fn an_agent_is_sent_what_it_waits_for() {
    let address = backend_that(|mut stream| async move {
        let mut asked = [0; 4];
        if stream.read_exact(&mut asked).await.is_ok() && asked == *b"api\n" {
            let _ = stream.write_all(b"up\n").await;
        }
        let _ = stream.read(&mut asked).await;
    })
    .await;
    let kind = CheckKind::Agent { send: b"api\n".to_vec() };
    assert_outcome(&check(address, kind, LONG).await, Verdict::Passed, "\"up\"");
}

#[tokio::test]
async fn an_agent_that_talks_nonsense_or_nothing_fails() {
    let outcome = check(greeting(b"HTTP/1.0 200 OK\r\n").await, agent(), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "\"HTTP/1.0 200 OK\", unknown word \"HTTP/1.0\"");
    assert!(outcome.agent.is_none());
    let outcome = check(greeting(b"").await, agent(), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "nothing but white space");
}

#[tokio::test]
async fn an_endless_agent_ends_at_the_bound() {
    let address =
        backend_that(|mut stream| async move { while stream.write_all(&[b'u'; 4096]).await.is_ok() {} })
            .await;
    let outcome = check(address, agent(), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "no end of line within 1024 octets");
}

#[tokio::test]
async fn an_agent_that_drips_cannot_stretch_the_timeout() {
    let address = backend_that(|mut stream| async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b" ").await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    let outcome = check(address, agent(), SHORT).await;
    assert_outcome(&outcome, Verdict::Failed, "connected, but no complete answer within 150ms");
}

#[tokio::test]
async fn steps_are_taken_in_turn_with_text_and_octets() {
    let address = backend_that(|mut stream| async move {
        // A greeting before anything is asked, and the beginning of the next answer along with it.
        let _ = stream.write_all(b"220 hello\r\n\x00\x01").await;
        let mut asked = [0; 6];
        if stream.read_exact(&mut asked).await.is_ok() && asked == *b"PING\r\n" {
            let _ = stream.write_all(b"\x02+PONG\r\n").await;
        }
        let _ = stream.read(&mut asked).await;
    })
    .await;
    let kind = steps(&[(b"", b"220 "), (b"PING\r\n", b"\x00\x01\x02"), (b"", b"+PONG"), (b"QUIT\r\n", b"")]);
    let outcome = check(address, kind, LONG).await;
    assert_outcome(&outcome, Verdict::Passed, &format!("exchange with {address}: as expected in "));
}

#[tokio::test]
async fn a_step_that_fails_is_named_with_what_came_instead() {
    let address = greeting(b"-ERR \x1b busy\r\n").await;
    let outcome = check(address, steps(&[(b"", b"-ERR"), (b"", b"+OK")]), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, r#"step 2 of 2: "\x1b busy" without "+OK", then closed"#);
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_bound() {
    let address =
        backend_that(|mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} })
            .await;
    let outcome = check(address, steps(&[(b"", b"+OK")]), LONG).await;
    assert_outcome(&outcome, Verdict::Failed, "step 1 of 1: 64 KiB without \"+OK\"");
}

#[tokio::test]
async fn a_proxy_header_comes_first_but_not_to_a_port_of_the_checks_own() {
    let v2: &[u8] = &[0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x20, 0, 0, 0];
    for (version, header) in [(ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]), (ProxyVersion::V2, v2)] {
        let (listener, address) = listener().await;
        let mut target = target("a", address, CheckKind::Tcp);
        target.send_proxy = Some(version);
        assert_eq!(first_octets(&listener, &target).await, header);
        target.check.port = Some(address.port());
        assert_eq!(first_octets(&listener, &target).await, b"");
    }
}

/// What a backend reads before the check ends with a reset.
async fn first_octets(listener: &TcpListener, target: &Target) -> Vec<u8> {
    assert_outcome(&attempt(target).await, Verdict::Passed, "accepted");
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut octets = Vec::new();
    while stream.read_buf(&mut octets).await.is_ok_and(|n| n > 0) {}
    octets
}

#[tokio::test]
async fn a_unix_socket_is_reached_and_a_missing_one_is_called_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend.sock");
    let mut target = target("a", ([127, 0, 0, 1], 1).into(), CheckKind::Tcp);
    target.address = BackendAddr::Unix(path.as_path().into());
    let outcome = attempt(&target).await;
    assert_outcome(
        &outcome,
        Verdict::Failed,
        &format!("connect to unix:{}: no such socket in ", path.display()),
    );
    let _listener = UnixListener::bind(&path).unwrap();
    assert_outcome(&attempt(&target).await, Verdict::Passed, "accepted");
}

#[test]
fn an_address_without_a_port_is_checked_on_the_checks_or_else_the_services_port() {
    let mut target = target("a", ([127, 0, 0, 1], 1).into(), CheckKind::Tcp);
    target.address = BackendAddr::ClientPort([10, 84, 14, 1].into());
    assert_eq!(target.endpoint(), Some(Endpoint::Tcp(([10, 84, 14, 1], 8082).into())));
    target.check.port = Some(9000);
    assert_eq!(target.endpoint(), Some(Endpoint::Tcp(([10, 84, 14, 1], 9000).into())));
}
