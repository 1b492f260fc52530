//! Whatever the two sides do, each sees of the other what it would see without the load balancer: everything after a
//! clean end, and never a clean end after less than everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, mpsc};

use common::*;
use proptest::prelude::*;

/// How a side ends what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// FIN, and reads on.
    HalfClose,
    /// Reads the other's whole stream first, then FIN.
    CloseLast,
    Reset,
}

#[derive(Debug, Clone)]
struct Script {
    segments: Vec<usize>,
    end: End,
}

/// What a side saw of the other.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    clean: bool,
}

fn read_to_end(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let clean = stream.read_to_end(&mut bytes).is_ok();
    Seen { bytes, clean }
}

/// Sends what the script says. Whether the kernel took it all.
fn send(stream: &mut TcpStream, script: &Script, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    script.segments.iter().all(|length| {
        let (now, later) = rest.split_at(*length);
        rest = later;
        stream.write_all(now).is_ok()
    })
}

/// Plays one side. An error may show when writing and then no more when reading: either counts.
fn play(mut stream: TcpStream, script: &Script) -> Seen {
    let bytes = pattern(script.segments.iter().sum());
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| match script.end {
        End::HalfClose => {
            let writing = scope
                .spawn(move || send(&mut writer, script, &bytes) && writer.shutdown(Shutdown::Write).is_ok());
            let seen = read_to_end(&mut stream);
            let written = writing.join().unwrap_or(false);
            Seen { clean: seen.clean && written, ..seen }
        }
        End::CloseLast => {
            let writing = scope.spawn(move || send(&mut writer, script, &bytes));
            let seen = read_to_end(&mut stream);
            let written = writing.join().unwrap_or(false);
            Seen { clean: seen.clean && written, ..seen }
        }
        End::Reset => {
            send(&mut writer, script, &bytes);
            drop(writer);
            reset(stream);
            Seen { bytes: vec![], clean: false }
        }
    })
}

/// What `seen` may be of a side that played `script`, when the observer played `own`.
fn check(seen: &Seen, script: &Script, own: &Script) -> Result<(), TestCaseError> {
    if own.end == End::Reset {
        return Ok(());
    }
    let sent = pattern(script.segments.iter().sum());
    prop_assert!(sent.starts_with(&seen.bytes), "bytes that were never sent, after {}", seen.bytes.len());
    match script.end {
        End::Reset => prop_assert!(!seen.clean, "a reset looked like an end"),
        End::HalfClose | End::CloseLast => {
            prop_assert!(
                seen.clean && seen.bytes.len() == sent.len(),
                "{} of {}",
                seen.bytes.len(),
                sent.len()
            );
        }
    }
    Ok(())
}

fn script() -> impl Strategy<Value = Script> {
    let length = prop_oneof![8 => 1usize..100, 4 => 1usize..20_000, 1 => 1usize..1_500_000];
    let end = prop_oneof![4 => Just(End::HalfClose), 2 => Just(End::CloseLast), 1 => Just(End::Reset)];
    (prop::collection::vec(length, 0..8), end).prop_map(|(segments, end)| Script { segments, end })
}

#[test]
fn each_side_sees_of_the_other_what_it_would_see_directly() {
    let (next, scripts) = mpsc::channel::<Script>();
    let (report, reports) = mpsc::channel::<Seen>();
    let scripts = Mutex::new(scripts);
    let server = Server::new(move |stream| {
        let Ok(script) = scripts.lock().unwrap().try_recv() else { return };
        let _ = report.send(play(stream, &script));
    });
    let lab = Lab::with((2, 100), &[server.address], |_| {});

    // PROPTEST_CASES=10000 for a longer look. A failing seed is printed; there is no file to keep it in.
    let cases = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(cases, |(client in script(), backend in script())| {
        // Two who each wait for the other's end would wait for ever, with or without a load balancer.
        prop_assume!(client.end != End::CloseLast || backend.end != End::CloseLast);
        // A client that resets while its backend is being connected may never be seen by it.
        prop_assume!(client.end != End::Reset || !client.segments.is_empty());
        next.send(backend.clone()).unwrap();
        let seen_by_client = play(lab.connect(), &client);
        let seen_by_backend = reports.recv_timeout(PATIENCE).unwrap();
        check(&seen_by_client, &backend, &client)?;
        check(&seen_by_backend, &client, &backend)?;
        eventually("the connection has ended", || lab.plane.active() == 0);
    });
    drop(next);
}
