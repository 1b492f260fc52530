//! Compiling a snapshot, as each reload does: from nothing, and over a previous one whose backends stay.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use config::{Backend, Balance, Check, CheckKind, Name, Passive, Service, Timeouts, Weight};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::snapshot::{Snapshot, compile};

const WORKERS: usize = 8;

fn service(number: u16, backends: u16) -> Service {
    let backend = |index: u16| Backend {
        name: Name::new(&format!("backend-{index}")).unwrap(),
        address: ([10, 1, (index >> 8) as u8, index as u8], 8082).into(),
        weight: Weight::ONE,
        backup: false,
        disabled: false,
    };
    let t = Duration::from_secs(5);
    Service {
        name: Name::new(&format!("service-{number}")).unwrap(),
        vips: vec![],
        listen: vec![([10, 84, 13, 100], 1024 + number).into()],
        required: true,
        min_healthy: 1,
        balance: Balance::RoundRobin,
        tcp_keepalive: false,
        linger: true,
        timeouts: Timeouts { connect: t, client: t, server: t, client_fin: t, server_fin: t },
        retries: 3,
        check: Check { kind: CheckKind::Tcp, interval: t, timeout: t, rise: 2, fall: 3, port: None },
        passive: Passive { enabled: true, failures: 3, window: t },
        backends: (0..backends).map(backend).collect(),
    }
}

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile a snapshot");
    for (services, backends) in [(3, 3), (256, 3), (1, 1000)] {
        let configured: Vec<Service> = (0..services).map(|number| service(number, backends)).collect();
        let size = format!("{services} services of {backends}");
        let empty = Snapshot::empty(WORKERS);
        group.bench_function(BenchmarkId::new("from nothing", &size), |b| {
            b.iter(|| compile(black_box(&configured), &empty));
        });
        let previous = compile(&configured, &empty);
        group.bench_function(BenchmarkId::new("over the same", &size), |b| {
            b.iter(|| compile(black_box(&configured), &previous));
        });
    }
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
