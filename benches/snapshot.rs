//! Compiling a snapshot, as each reload does: from nothing, and over a previous one whose backends stay.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use config::Service;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::snapshot::{Snapshot, compile};

const WORKERS: usize = 8;

fn service(number: u16, backends: u16) -> Service {
    let mut text =
        format!("[[service]]\nname = \"service-{number}\"\nlisten = [\"10.84.13.100:{}\"]\n", 1024 + number);
    for index in 0..backends {
        let address = format!("10.1.{}.{}:8082", index >> 8, index & 0xFF);
        text.push_str(&format!("[[service.backend]]\naddress = \"{address}\"\n"));
    }
    config::parse(&text, "bench").unwrap().config.services.remove(0)
}

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile a snapshot");
    for (services, backends) in [(3, 3), (256, 3), (1, 1000)] {
        let configured: Vec<Service> = (0..services).map(|number| service(number, backends)).collect();
        let size = format!("{services} services of {backends}");
        let empty = Snapshot::empty(WORKERS, 0);
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
