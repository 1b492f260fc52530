//! Building and reading UPDATEs, beside a general BGP library (bgpkit-parser) doing the same in the same run.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bgp_speaker::Attributes;
use bgp_speaker::pack::{Changes, Dialect, NextHops, pack};
use bgp_speaker::wire::{AttributeContext, HEADER_LEN, Update};
use bgpkit_parser::models::{AsnLength, BgpMessage};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::{Bytes, BytesMut};
use config::{Asn, Community, Family, LargeCommunity};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::IpNet;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
/// One VIP, a busy host, and as many as one UPDATE holds.
const ROUTES: [u32; 3] = [1, 256, 750];

fn dialect() -> Dialect {
    Dialect {
        local_as: Asn::new(64512).unwrap(),
        internal: false,
        as4: true,
        families: FAMILIES.to_vec(),
        next_hops: NextHops { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..NextHops::default() },
        only_to_customer: false,
    }
}

/// `count` host routes with equal attributes.
fn announcement(count: u32) -> Changes {
    let attributes = Attributes {
        med: 100,
        local_pref: 0,
        prepend: 0,
        communities: vec![Community(0xFC00_0064)],
        large_communities: vec![LargeCommunity(64512, 1, 2)],
        link_bandwidth: None,
    };
    let prefixes = (0..count).map(|n| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0A00_0000 + n))));
    Changes { withdrawn: Vec::new(), announced: BTreeMap::from([(attributes, prefixes.collect())]) }
}

fn packed(changes: &Changes) -> BytesMut {
    let mut octets = BytesMut::new();
    pack(changes, &dialect(), &mut octets).unwrap();
    octets
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build an UPDATE");
    for count in ROUTES {
        let changes = announcement(count);
        group.bench_function(BenchmarkId::new("bgp-speaker", count), |b| {
            b.iter(|| packed(black_box(&changes)));
        });
        let mut message = packed(&changes).freeze();
        let parsed = parse_bgp_message(&mut message, false, &AsnLength::Bits32).unwrap();
        group.bench_function(BenchmarkId::new("baseline: bgpkit-parser", count), |b| {
            b.iter(|| black_box(&parsed).encode(AsnLength::Bits32).unwrap());
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let context = AttributeContext { as4: true, internal: false, families: &FAMILIES, v4_over_v6: false };
    let mut group = c.benchmark_group("read an UPDATE");
    for count in ROUTES {
        let message: Bytes = packed(&announcement(count)).freeze();
        group.bench_function(BenchmarkId::new("bgp-speaker, judged and counted", count), |b| {
            b.iter(|| Update::decode(black_box(&message[HEADER_LEN..]), context).unwrap().announced_count());
        });
        group.bench_function(BenchmarkId::new("bgp-speaker, every prefix", count), |b| {
            b.iter(|| {
                let update = Update::decode(black_box(&message[HEADER_LEN..]), context).unwrap();
                update.announced.iter().map(|prefix| usize::from(prefix.prefix_len())).sum::<usize>()
            });
        });
        group.bench_function(BenchmarkId::new("baseline: bgpkit-parser", count), |b| {
            b.iter(|| match parse_bgp_message(&mut message.clone(), false, &AsnLength::Bits32).unwrap() {
                BgpMessage::Update(update) => update.announced_prefixes.len(),
                other => unreachable!("{other:?}"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, read);
criterion_main!(benches);
