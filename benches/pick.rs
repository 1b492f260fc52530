//! Picking a backend: what each new connection pays, beside the cheapest pick there could be (a bare shared counter).
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::balance::{Ring, smooth_wrr};

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let cursor = AtomicU64::new(0);
    group
        .bench_function("baseline: a shared counter", |b| b.iter(|| black_box(cursor.fetch_add(1, Relaxed))));
    for backends in [3usize, 64, 1000] {
        let ring = Ring::weighted((0..backends).map(|index| (index, 1)).collect());
        group.bench_function(BenchmarkId::new("round robin, equal weights", backends), |b| {
            b.iter(|| black_box(ring.pick(cursor.fetch_add(1, Relaxed), |_| true)));
        });
        let ring = Ring::weighted((0..backends).map(|index| (index, 1 + index as u16 % 7)).collect());
        group.bench_function(BenchmarkId::new("smooth weighted round robin", backends), |b| {
            b.iter(|| black_box(ring.pick(cursor.fetch_add(1, Relaxed), |_| true)));
        });
    }
    group.finish();
}

fn sequence(c: &mut Criterion) {
    let mut group = c.benchmark_group("order of turns, once per change");
    for backends in [3usize, 64, 1000] {
        let weights: Vec<u16> = (0..backends).map(|index| 1 + index as u16 % 256).collect();
        group.bench_function(BenchmarkId::from_parameter(backends), |b| {
            b.iter(|| smooth_wrr::sequence(black_box(&weights)));
        });
    }
    group.finish();
}

criterion_group!(benches, pick, sequence);
criterion_main!(benches);
