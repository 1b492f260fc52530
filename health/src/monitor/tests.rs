use std::collections::HashSet;
use std::net::SocketAddr;

use config::CheckKind;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::book::Book;
use crate::outcome::Verdict;
use crate::testing::{id, target};

const SOON: Duration = Duration::from_secs(10);

fn every(interval: Duration, backend: &str, address: SocketAddr) -> Target {
    let mut target = target(backend, address, CheckKind::Tcp);
    target.check.interval = interval;
    target
}

/// A backend that accepts for as long as the runtime lives.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    address
}

#[tokio::test]
async fn every_target_is_checked_at_once_and_again_and_again() {
    let address = backend().await;
    let (reports, mut incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let interval = Duration::from_millis(20);
    let targets = [every(interval, "a", address), every(interval, "b", address)];
    monitor.apply(&Book::new().reconcile(&targets, Instant::now()));
    let mut seen = std::collections::HashMap::<BackendId, u32>::new();
    while seen.len() < 2 || seen.values().any(|&n| n < 5) {
        let report = timeout(SOON, incoming.recv()).await.unwrap().unwrap();
        assert_eq!(report.outcome.verdict(), Verdict::Passed, "{}", report.outcome.detail);
        *seen.entry(report.id).or_default() += 1;
    }
}

#[tokio::test]
async fn applying_again_leaves_unchanged_targets_running_and_replaces_changed_ones() {
    let address = backend().await;
    let (reports, _incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let (mut book, minute) = (Book::new(), Duration::from_secs(60));
    let before =
        [every(minute, "same", address), every(minute, "changed", address), every(minute, "gone", address)];
    monitor.apply(&book.reconcile(&before, Instant::now()));
    let task = |monitor: &Monitor, name: &str| monitor.running[&id(name)].task.id();
    let (same, changed) = (task(&monitor, "same"), task(&monitor, "changed"));

    let after = [every(minute, "same", address), every(minute * 2, "changed", address)];
    monitor.apply(&book.reconcile(&after, Instant::now()));
    assert_eq!(task(&monitor, "same"), same);
    assert_ne!(task(&monitor, "changed"), changed);
    let running: HashSet<_> = monitor.running.keys().cloned().collect();
    assert_eq!(running, HashSet::from([id("same"), id("changed")]));
}

#[tokio::test]
async fn a_target_without_an_active_check_is_left_alone() {
    let (reports, _incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let unchecked = target("a", backend().await, CheckKind::None);
    monitor.apply(&Book::new().reconcile(&[unchecked], Instant::now()));
    assert!(monitor.running.is_empty());
}

#[tokio::test]
async fn a_stopped_monitor_leaves_no_task_behind() {
    // Nobody accepts: the attempt is in flight when it is stopped.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (reports, mut incoming) = mpsc::channel(1);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let busy = every(Duration::from_millis(1), "a", listener.local_addr().unwrap());
    monitor.apply(&Book::new().reconcile(&[busy], Instant::now()));
    timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    monitor.stop();
    drop(monitor);
    while timeout(SOON, incoming.recv()).await.expect("every task has let go of the channel").is_some() {}
}

#[tokio::test]
async fn a_new_interval_counts_from_now_on() {
    let address = backend().await;
    let (reports, mut incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let hour = Duration::from_secs(3600);
    monitor.apply(&Book::new().reconcile(&[every(hour, "a", address)], Instant::now()));
    timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    monitor.set_intervals(&[(id("a"), Duration::from_millis(10))]);
    for _ in 0..5 {
        timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn checks_go_on_while_the_runtime_of_everything_else_is_blocked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (reports, mut incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let interval = Duration::from_millis(10);
    monitor.apply(
        &Book::new().reconcile(&[every(interval, "a", listener.local_addr().unwrap())], Instant::now()),
    );
    // This test's runtime has one thread, and it does not get it back before five reports are in.
    let end = Instant::now() + SOON;
    let mut reports = 0;
    while reports < 5 {
        reports += usize::from(incoming.try_recv().is_ok());
        assert!(Instant::now() < end, "{reports} reports");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_slow_reader_of_reports_slows_the_checks_and_loses_none() {
    let address = backend().await;
    let (reports, mut incoming) = mpsc::channel(1);
    let mut monitor = Monitor::start(1, reports).unwrap();
    monitor.apply(&Book::new().reconcile(&[every(Duration::from_millis(1), "a", address)], Instant::now()));
    let mut last = None;
    for _ in 0..20 {
        tokio::task::yield_now().await;
        let report = timeout(SOON, incoming.recv()).await.unwrap().unwrap();
        assert!(last.is_none_or(|last| report.at >= last));
        last = Some(report.at);
    }
}

#[test]
fn checks_due_within_eight_milliseconds_share_a_wake_and_none_is_put_off_by_a_64th_of_its_interval() {
    let (origin, second) = (Instant::now(), Duration::from_secs(1));
    let at = |micros: u64| wake(origin + Duration::from_micros(micros), second, origin) - origin;
    assert!([1, 3_500, 7_999, 8_000].iter().all(|due| at(*due) == TOGETHER));
    assert_eq!((at(0), at(8_001)), (Duration::ZERO, TOGETHER * 2));
    for interval in [1, 10, 100, 1_000, 60_000].map(Duration::from_millis) {
        for due in (0..20_000).step_by(77).map(|micros| origin + Duration::from_micros(micros)) {
            let put_off = wake(due, interval, origin) - due;
            assert!(put_off < TOGETHER.min(interval / TOGETHER_PART), "{put_off:?} of {interval:?}");
        }
    }
}

/// Where the test may not raise a thread's priority, there is nothing to see.
#[tokio::test]
async fn the_thread_of_the_checks_goes_before_normal_ones_where_that_is_permitted() {
    let permitted = std::thread::spawn(|| setpriority_process(None, NICENESS).is_ok()).join().unwrap();
    let (reports, mut incoming) = mpsc::channel(16);
    let mut monitor = Monitor::start(1, reports).unwrap();
    let minute = Duration::from_secs(60);
    monitor.apply(&Book::new().reconcile(&[every(minute, "a", backend().await)], Instant::now()));
    timeout(SOON, incoming.recv()).await.unwrap().unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let of_checks: Vec<_> = stats.filter(|stat| stat.contains("(checks)")).collect();
    // The nineteenth field, the name being the second.
    let niceness = |stat: &String| stat.rsplit(") ").next()?.split(' ').nth(16)?.parse::<i32>().ok();
    assert!(!permitted || of_checks.iter().any(|stat| niceness(stat) == Some(NICENESS)), "{of_checks:?}");
}
