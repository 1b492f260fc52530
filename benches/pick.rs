//! Picking a backend: what each new connection pays, beside the cheapest pick there could be (a bare shared counter).
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::balance::least::{Load, Past, Tournament};
use lb_core::balance::random::{Draws, Random};
use lb_core::balance::rendezvous::{ClientHash, Rendezvous};
use lb_core::balance::{Ring, smooth_wrr};

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let cursor = AtomicU64::new(0);
    group
        .bench_function("baseline: a shared counter", |b| b.iter(|| black_box(cursor.fetch_add(1, Relaxed))));
    for backends in [3usize, 64, 1000] {
        let weights: Vec<u16> = (0..backends).map(|index| 1 + index as u16 % 7).collect();
        let ring = Ring::weighted(&weights);
        group.bench_function(BenchmarkId::new("smooth weighted round robin", backends), |b| {
            b.iter(|| black_box(ring.at(cursor.fetch_add(1, Relaxed))));
        });
        let draws = Draws::new(weights.iter().copied());
        group.bench_function(BenchmarkId::new("two random draws", backends), |b| {
            b.iter(|| black_box(draws.two(Random::new(1, cursor.fetch_add(1, Relaxed)))));
        });
        let names: Vec<String> = (0..backends).map(|index| format!("backend-{index}")).collect();
        let named: Vec<(&str, u16)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let members = Rendezvous::new(&named);
        group.bench_function(BenchmarkId::new("source, rendezvous", backends), |b| {
            b.iter(|| {
                let client = Ipv4Addr::from_bits(cursor.fetch_add(1, Relaxed) as u32);
                black_box(members.order(ClientHash::of(client.into())).next())
            });
        });
        group.bench_function(BenchmarkId::new("least connections, a pick and an end", backends), |b| {
            let load = |connections| Load { connections, weight: 1 << 16, full: false };
            let mut tournament = Tournament::new(&vec![(load(1), Past::Returned); backends], 0);
            b.iter(|| {
                let best = tournament.best().unwrap();
                tournament.picked(best);
                tournament.set_load(best, load(2));
                tournament.set_load(best, load(1));
                black_box(best)
            });
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
