//! Which member a client belongs to: rendezvous hashing with weights (Thaler and Ravishankar, 1998; the weights as in
//! draft-ietf-bess-weighted-hrw). Every member draws a number for the client, and the best draw has it; so who comes or
//! goes moves only its own clients, and every share is exactly its weight's.
//!
//! **The format is fixed**: the same members serve a client in the same order on every host and in every version, so that
//! one who comes in through another host meets the same backend. `docs/balancing.md` has it in full, with what a table of
//! places (Maglev) came to instead.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher24};

/// What the second half of a hash key says that the hash is for.
const MEMBER: u64 = 0;
const CLIENT: u64 = 1;

/// Members, by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    /// From the heaviest on. Within one the greatest draw wins, so only the winners' draws have to be weighed.
    classes: Box<[Class]>,
}

/// Members of one weight, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    weight: u16,
    keys: Box<[Hash]>,
    indices: Box<[u32]>,
}

impl Rendezvous {
    /// Of these members, each with its name and weight. One of weight 0 has no clients. The order in which they are given
    /// only says which index stands for whom.
    pub fn new(members: &[(&str, u16)]) -> Self {
        let mut by_weight: BTreeMap<Reverse<u16>, BTreeMap<&str, u32>> = BTreeMap::new();
        for (index, (name, weight)) in (0..).zip(members).filter(|(_, (_, weight))| *weight > 0) {
            by_weight.entry(Reverse(*weight)).or_default().insert(name, index);
        }
        let class = |(Reverse(weight), members): (Reverse<u16>, BTreeMap<&str, u32>)| Class {
            weight,
            keys: members.keys().map(|name| Hash::new(MEMBER, name.as_bytes())).collect(),
            indices: members.into_values().collect(),
        };
        Rendezvous { classes: by_weight.into_iter().map(class).collect() }
    }

    /// The members that serve a client, in order: its own first, then whose it would be if that one were not there, and so
    /// on. The first is found in one pass over the members and without allocating; what is more costs a heap of them.
    pub fn order(&self, client: ClientHash) -> impl Iterator<Item = usize> + '_ {
        let first = self.first(client);
        let others = move || {
            let mut heap: BinaryHeap<Reverse<Bid>> = self.bids(client).map(Reverse).collect();
            heap.pop(); // the first
            std::iter::from_fn(move || heap.pop()).map(|Reverse(bid)| bid.member)
        };
        first.into_iter().chain(std::iter::once_with(others).flatten())
    }

    fn first(&self, client: ClientHash) -> Option<usize> {
        let [class] = &*self.classes else { return self.bids_of_classes(client).min().map(|bid| bid.member) };
        class.best(client).map(|(_, _, member)| member)
    }

    /// The best of each class.
    fn bids_of_classes(&self, client: ClientHash) -> impl Iterator<Item = Bid> + '_ {
        self.classes.iter().filter_map(move |class| {
            let (draw, order, member) = class.best(client)?;
            Some(Bid { distance: distance(draw), weight: class.weight, draw, order, member })
        })
    }

    fn bids(&self, client: ClientHash) -> impl Iterator<Item = Bid> + '_ {
        self.classes.iter().flat_map(move |class| {
            let draws = class.keys.iter().map(move |key| key.draw(client.0));
            draws.zip(0..).zip(&class.indices).map(|((draw, order), member)| {
                // Among equals the draws alone decide.
                let distance = if self.classes.len() > 1 { distance(draw) } else { 0 };
                Bid { distance, weight: class.weight, draw, order, member: *member as usize }
            })
        })
    }
}

impl Class {
    /// The greatest draw, of equals the first by name: it, whose it is by the order of names, and by the index.
    fn best(&self, client: ClientHash) -> Option<(u64, u32, usize)> {
        let (mut best, mut at) = (0, 0);
        for (key, order) in self.keys.iter().zip(0..) {
            let draw = key.draw(client.0);
            if draw > best {
                (best, at) = (draw, order);
            }
        }
        Some((best, at, *self.indices.get(at as usize)? as usize))
    }
}

/// A member's draw for a client. The least has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bid {
    distance: u64,
    weight: u16,
    draw: u64,
    /// Among those of its weight, by name.
    order: u32,
    member: usize,
}

/// By distance over weight: if the distances are exponentially distributed, each is the least as often as its weight says.
impl Ord for Bid {
    fn cmp(&self, other: &Self) -> Ordering {
        let [own, others] =
            [(self, other), (other, self)].map(|(a, b)| u128::from(a.distance) * u128::from(b.weight));
        own.cmp(&others)
            .then(other.weight.cmp(&self.weight))
            .then(other.draw.cmp(&self.draw))
            .then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The binary logarithm of 2^64 over a draw, of which 0 counts as 1, with 32 bits after the point. By integers alone, bit by
/// bit, so that it is the same everywhere.
fn distance(draw: u64) -> u64 {
    let draw = draw.max(1);
    let zeros = draw.leading_zeros();
    // From 1 up to, not including, 2: one bit before the point and 63 after.
    let mut mantissa = draw << zeros;
    let mut logarithm = 0u64;
    for _ in 0..32 {
        // Two bits before the point, until it is halved or the first of them is dropped.
        let square = ((u128::from(mantissa) * u128::from(mantissa)) >> 64) as u64;
        let carry = square >> 63;
        mantissa = square << (1 - carry);
        logarithm = logarithm << 1 | carry;
    }
    (u64::from(zeros + 1) << 32) - logarithm
}

/// 128 bits of a member's name or a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hash(u64, u64);

impl Hash {
    fn new(purpose: u64, bytes: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0, purpose);
        hasher.write(bytes);
        let hash = hasher.finish128();
        Hash(hash.h1, hash.h2)
    }

    /// The number that this member draws for this client.
    fn draw(self, client: Hash) -> u64 {
        let product = u128::from(self.0 ^ client.0) * u128::from(self.1 ^ client.1);
        (product >> 64) as u64 ^ product as u64
    }
}

/// What is drawn by for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientHash(Hash);

impl ClientHash {
    /// Of the address's octets, 4 or 16; an IPv4 address in an IPv6 one counts as the IPv4 address.
    pub fn of(client: IpAddr) -> Self {
        ClientHash(match client.to_canonical() {
            IpAddr::V4(ip) => Hash::new(CLIENT, &ip.octets()),
            IpAddr::V6(ip) => Hash::new(CLIENT, &ip.octets()),
        })
    }

    /// A number that is the client's own, evenly spread over 0..65536 and independent of whose it is.
    pub fn lot(self) -> u32 {
        (self.0.0 >> 48) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.84.14.{n}:8082")).collect()
    }

    fn equal<'a>(names: impl IntoIterator<Item = &'a String>) -> Rendezvous {
        Rendezvous::new(&names.into_iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    }

    fn clients(count: u32) -> impl Iterator<Item = ClientHash> {
        (0..count).map(|number| ClientHash::of(Ipv4Addr::from_bits(0x0A00_0000 + number).into()))
    }

    fn owner(members: &Rendezvous, client: ClientHash) -> usize {
        members.order(client).next().unwrap()
    }

    /// Changing any of this sends clients elsewhere while two versions serve one VIP: see the module's text.
    #[test]
    fn the_order_is_the_same_in_every_version() {
        let three = Rendezvous::new(&[("ctrl-1", 1), ("ctrl-2", 1), ("ctrl-3", 2)]);
        let orders: Vec<Vec<usize>> = clients(4).map(|client| three.order(client).collect()).collect();
        assert_eq!(orders, [[2, 1, 0], [1, 0, 2], [0, 2, 1], [2, 1, 0]]);
        let mut digest = SipHasher24::new_with_keys(0, 0);
        clients(10_000)
            .flat_map(|client| three.order(client))
            .for_each(|member| digest.write(&[member as u8]));
        assert_eq!(digest.finish128().h1, 0x95E9_62B5_2DFF_9E03);
        let v6 = ClientHash::of("2001:db8::1".parse().unwrap());
        assert_eq!(v6.0, Hash(0x7742_0E1E_5D30_056F, 0xC5E2_312A_0691_935A));
        assert_eq!(Hash::new(MEMBER, b"ctrl-1").draw(v6.0), 0x22E4_4507_3932_2A90);
    }

    #[test]
    fn the_logarithm_is_right_to_nine_digits() {
        for draw in [1, 2, 3, 1000, 1 << 63, u64::MAX / 3, u64::MAX - u64::MAX / 1000, u64::MAX] {
            let exact = 64.0 - (draw as f64).log2();
            let ours = distance(draw) as f64 / f64::from(1 << 16) / f64::from(1 << 16);
            assert!((ours - exact).abs() < 1e-9, "{draw}: {ours}, {exact}");
        }
        assert!(distance(0) == distance(1) && distance(u64::MAX) > 0);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = ClientHash::of("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped, ClientHash::of(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[test]
    fn the_order_in_the_file_does_not_matter() {
        let a = Rendezvous::new(&[("a", 1), ("b", 3), ("c", 2)]);
        let b = Rendezvous::new(&[("c", 2), ("a", 1), ("b", 3)]);
        for client in clients(1000) {
            assert!(a.order(client).map(|index| [1, 2, 0][index]).eq(b.order(client)));
        }
    }

    #[test]
    fn shares_are_within_one_percent_of_the_weights() {
        for weights in [&[1, 1][..], &[1, 2, 3], &[5, 1, 1, 1], &[256, 100, 7], &[1; 10]] {
            let all = names(weights.len());
            let members: Vec<_> = all.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let (members, mut count) = (Rendezvous::new(&members), vec![0u32; weights.len()]);
            const CLIENTS: u32 = 300_000;
            clients(CLIENTS).for_each(|client| count[owner(&members, client)] += 1);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (count, weight) in count.into_iter().zip(weights) {
                let fair = f64::from(CLIENTS) * f64::from(*weight) / total;
                // Besides the one percent, three deviations of so many throws.
                let bound = fair * 0.01 + if fair < 100_000.0 { 3.0 * fair.sqrt() } else { 0.0 };
                assert!((f64::from(count) - fair).abs() <= bound, "{weights:?}: {count} of {fair}");
            }
        }
    }

    #[test]
    fn a_thousand_members_have_shares_as_even_as_throws_of_dice() {
        let (members, mut count) = (equal(&names(1000)), vec![0f64; 1000]);
        clients(100_000).for_each(|client| count[owner(&members, client)] += 1.0);
        let chi_squared: f64 = count.iter().map(|count| (count - 100.0).powi(2) / 100.0).sum();
        // 999 on average, with a deviation of 45.
        assert!((800.0..1200.0).contains(&chi_squared), "{chi_squared}");
    }

    #[test]
    fn who_comes_or_goes_moves_its_own_clients_only_however_many_there_are() {
        for count in [2, 3, 10, 100, 1000] {
            let all = names(count);
            let (whole, gone) = (equal(&all), count / 2);
            let rest =
                equal(all.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, name)| name));
            const CLIENTS: u32 = 20_000;
            let mut moved = 0;
            for client in clients(CLIENTS) {
                let mut order = whole.order(client);
                let (before, after) = (order.next().unwrap(), owner(&rest, client));
                let after = after + usize::from(after >= gone);
                if before == gone {
                    moved += 1;
                    assert_eq!(Some(after), order.next(), "to whom it would have come next");
                } else {
                    assert_eq!(after, before);
                }
            }
            let moved = f64::from(moved) / f64::from(CLIENTS);
            assert!(moved <= 1.5 / count as f64, "{moved} of the clients with one of {count}");
        }
    }

    #[test]
    fn a_weight_that_grows_only_takes_clients_and_one_that_shrinks_only_gives_them() {
        let of = |weight| Rendezvous::new(&[("a", 4), ("b", weight), ("c", 9)]);
        for (less, more) in [(1, 2), (3, 4), (4, 5), (8, 9), (9, 256)] {
            let (less, more) = (of(less), of(more));
            for client in clients(5000) {
                let (before, after) = (owner(&less, client), owner(&more, client));
                assert!(before == after || after == 1, "{before} to {after}");
            }
        }
    }

    #[test]
    fn the_order_has_every_member_once_whatever_the_weights() {
        let members = Rendezvous::new(&[("a", 1), ("b", 256), ("c", 7), ("d", 0), ("e", 7)]);
        for client in clients(1000) {
            let mut order: Vec<_> = members.order(client).collect();
            assert_eq!(order[0], owner(&members, client));
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 4]);
        }
    }

    #[test]
    fn a_clients_lot_says_nothing_of_whose_it_is() {
        let members = equal(&names(3));
        for member in 0..3 {
            let own = || clients(30_000).filter(|client| owner(&members, *client) == member);
            let low = own().filter(|client| client.lot() < 1 << 14).count() as f64 / own().count() as f64;
            assert!((low - 0.25).abs() < 0.015, "{low} of {member}");
        }
    }

    #[test]
    fn without_members_there_is_no_order() {
        let client = ClientHash::of(Ipv4Addr::LOCALHOST.into());
        assert_eq!(Rendezvous::new(&[]).order(client).count(), 0);
        assert_eq!(Rendezvous::new(&[("a", 0)]).order(client).count(), 0);
    }
}
