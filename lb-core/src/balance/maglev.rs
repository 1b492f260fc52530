//! Which member a client belongs to: Maglev hashing (Eisenbud et al., NSDI 2016, §3.4), with weights.
//!
//! **The format is fixed**: the same members give the same table on every host and in every version, so that a client
//! that comes in through another host meets the same backend. `docs/balancing.md` has it in full; in short: SipHash-2-4
//! with key (0, n), 262,139 places, members in the order of their names.

use siphasher::sip::SipHasher24;
use std::cmp::Reverse;
use std::hash::Hasher;
use std::net::IpAddr;

/// Places: a prime, so that every skip visits all of them.
pub const PLACES: u32 = 262_139;

/// What the second half of a hash key says that the hash is for.
const OFFSET: u64 = 0;
const SKIP: u64 = 1;
const CLIENT: u64 = 2;

const FREE: u16 = u16::MAX;

/// A table of members by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    /// Index of each place's member; empty: there is no member.
    places: Box<[u16]>,
}

impl Maglev {
    /// The table of these members, of which there are fewer than 65,535, each with its name and weight. A member of weight 0 gets no place. The order in which
    /// they are given only says which index stands for whom.
    pub fn new(members: &[(&str, u16)]) -> Self {
        let mut walkers: Vec<Walker<'_>> = (0..FREE)
            .zip(members)
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(index, (name, weight))| Walker::new(index, name, *weight))
            .collect();
        // The heaviest choose first, and of equals by name.
        walkers.sort_unstable_by_key(|walker| (Reverse(walker.weight), walker.name));
        Maglev { places: populate(&mut walkers).into_boxed_slice() }
    }

    /// The members that serve a client, in order: its own first, then whoever comes next in the table, each as often as
    /// it has places.
    pub fn order(&self, client: ClientHash) -> impl Iterator<Item = usize> + '_ {
        let start = (client.0 % u64::from(PLACES)) as usize;
        let (before, from) = self.places.split_at_checked(start).unwrap_or_default();
        from.iter().chain(before).map(|index| *index as usize)
    }
}

/// Members in turn take the first free place of their own permutation of all places, those of lesser weight not in every
/// round.
fn populate(walkers: &mut [Walker<'_>]) -> Vec<u16> {
    let Some(heaviest) = walkers.first().map(|walker| walker.weight) else { return Vec::new() };
    let mut places = vec![FREE; PLACES as usize];
    let mut left = PLACES;
    while left > 0 {
        for walker in walkers.iter_mut() {
            walker.due += walker.weight;
            if walker.due < heaviest {
                continue;
            }
            walker.due -= heaviest;
            walker.take_place(&mut places);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    places
}

/// One member on its way through its permutation: `(offset + k * skip) mod PLACES`.
struct Walker<'a> {
    index: u16,
    name: &'a str,
    weight: u32,
    due: u32,
    at: u32,
    skip: u32,
}

impl<'a> Walker<'a> {
    fn new(index: u16, name: &'a str, weight: u16) -> Self {
        let offset = hash(OFFSET, name.as_bytes()) % u64::from(PLACES);
        let skip = hash(SKIP, name.as_bytes()) % u64::from(PLACES - 1) + 1;
        Walker { index, name, weight: weight.into(), due: 0, at: offset as u32, skip: skip as u32 }
    }

    /// Takes its next free place; there is one.
    fn take_place(&mut self, places: &mut [u16]) {
        for _ in 0..PLACES {
            let place = places.get_mut(self.at as usize);
            self.at = (self.at + self.skip) % PLACES;
            if let Some(place) = place.filter(|place| **place == FREE) {
                *place = self.index;
                return;
            }
        }
    }
}

/// Where a client is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientHash(u64);

impl ClientHash {
    /// Of the address's octets, 4 or 16; an IPv4 address in an IPv6 one counts as the IPv4 address.
    pub fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(ip) => ClientHash(hash(CLIENT, &ip.octets())),
            IpAddr::V6(ip) => ClientHash(hash(CLIENT, &ip.octets())),
        }
    }

    /// A number that is the client's own, evenly spread over 0..65536 and independent of its place.
    pub fn lot(self) -> u32 {
        (self.0 >> 48) as u32
    }
}

fn hash(purpose: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, purpose);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.84.14.{n}:8082")).collect()
    }

    fn table(members: &[(&str, u16)]) -> Maglev {
        Maglev::new(members)
    }

    fn equal(names: &[String]) -> Maglev {
        table(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    }

    /// How many places differ in their member's name.
    fn moved(a: (&Maglev, &[String]), b: (&Maglev, &[String])) -> usize {
        let name = |names: &[String], index: u16| names[index as usize].clone();
        a.0.places.iter().zip(&b.0.places).filter(|(x, y)| name(a.1, **x) != name(b.1, **y)).count()
    }

    /// Changing any of this sends clients elsewhere while two versions serve one VIP: see the module's text.
    #[test]
    fn the_table_is_the_same_in_every_version() {
        let three = table(&[("ctrl-1", 1), ("ctrl-2", 1), ("ctrl-3", 2)]);
        let digest = three.places.iter().fold(0u64, |sum, place| hash(sum, &place.to_le_bytes()));
        assert_eq!(three.places[..12], [0, 2, 2, 2, 0, 2, 2, 0, 0, 2, 1, 0]);
        assert_eq!(digest, 0xD56A_B554_1F22_1AFA);
        assert_eq!(ClientHash::of(Ipv4Addr::new(192, 0, 2, 1).into()).0, 0xB82A_0A51_D207_4A61);
        assert_eq!(ClientHash::of("2001:db8::1".parse().unwrap()).0, 0x28C6_5418_624B_B243);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = ClientHash::of("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped, ClientHash::of(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[test]
    fn the_order_in_the_file_does_not_matter() {
        let (a, b) = (table(&[("a", 1), ("b", 3), ("c", 2)]), table(&[("c", 2), ("a", 1), ("b", 3)]));
        let other = |index: &u16| [1, 2, 0][*index as usize];
        assert!(a.places.iter().map(other).eq(b.places.iter().copied()));
    }

    #[test]
    fn places_are_within_one_percent_of_the_weights() {
        for count in [1, 3, 10, 100] {
            let members = names(count);
            let weights: Vec<u16> = (0..count).map(|n| 1 + (n % 3) as u16).collect();
            let weighted: Vec<_> = members.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let table = Maglev::new(&weighted);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (index, weight) in (0..).zip(&weights) {
                let places = table.places.iter().filter(|place| **place == index).count() as f64;
                let fair = f64::from(PLACES) * f64::from(*weight) / total;
                assert!((places - fair).abs() <= (fair * 0.01).max(1.0), "{count}: {places} of {fair}");
            }
        }
    }

    #[test]
    fn one_more_or_one_less_of_n_moves_at_most_one_and_a_half_nth_of_the_clients() {
        for count in [2, 3, 10, 100] {
            let all = names(count);
            let whole = equal(&all);
            for gone in [0, count / 2] {
                let mut rest = all.clone();
                rest.remove(gone);
                let moved = moved((&whole, &all), (&equal(&rest), &rest)) as f64 / f64::from(PLACES);
                assert!(moved <= 1.5 / count as f64, "{moved} of the clients with one of {count}");
            }
        }
    }

    #[test]
    fn a_member_of_weight_zero_has_no_place_and_without_members_there_is_no_order() {
        let zero = table(&[("a", 0), ("b", 1)]);
        assert!(zero.places.iter().all(|place| *place == 1));
        let client = ClientHash::of(Ipv4Addr::LOCALHOST.into());
        assert_eq!(table(&[]).order(client).count(), 0);
        assert_eq!(table(&[("a", 0)]).order(client).count(), 0);
    }
}
