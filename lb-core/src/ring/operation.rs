//! What is asked of the kernel, as the one word that comes back with its answer. Pure.

use crate::relay::Side;

/// Where in the slab a connection is, and which of its sockets is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below 2^28; a worker never has that many descriptors.
    pub(crate) index: u32,
    pub(crate) side: Side,
}

/// The kinds, with the number of the question: there may be an older one about the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The event queue has something.
    Poll,
    /// Nobody waits for the answer.
    Cancel,
    Connect(Place, u32),
    Receive(Place, u32),
    Send(Place, u32),
}

const PLACE_BITS: u32 = 28;

impl Operation {
    pub(super) fn encode(self) -> u64 {
        let word = |kind: u64, place: Place, number: u32| {
            let side = u64::from(place.side == Side::Backend);
            let index = u64::from(place.index) & ((1 << PLACE_BITS) - 1);
            kind << 61 | side << 60 | u64::from(number) << PLACE_BITS | index
        };
        let nowhere = Place { index: 0, side: Side::Client };
        match self {
            Operation::Poll => word(0, nowhere, 0),
            Operation::Cancel => word(1, nowhere, 0),
            Operation::Connect(place, number) => word(2, place, number),
            Operation::Receive(place, number) => word(3, place, number),
            Operation::Send(place, number) => word(4, place, number),
        }
    }

    pub(super) fn decode(word: u64) -> Self {
        let side = if word >> 60 & 1 == 0 { Side::Client } else { Side::Backend };
        let place = Place { index: (word & ((1 << PLACE_BITS) - 1)) as u32, side };
        let number = (word >> PLACE_BITS) as u32;
        match word >> 61 {
            0 => Operation::Poll,
            2 => Operation::Connect(place, number),
            3 => Operation::Receive(place, number),
            4 => Operation::Send(place, number),
            _ => Operation::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_kernel() {
        for side in [Side::Client, Side::Backend] {
            for index in [0, 1, (1 << PLACE_BITS) - 1] {
                let place = Place { index, side };
                for operation in [
                    Operation::Poll,
                    Operation::Cancel,
                    Operation::Connect(place, u32::MAX),
                    Operation::Receive(place, 1),
                    Operation::Receive(place, u32::MAX),
                    Operation::Send(place, 7),
                ] {
                    assert_eq!(Operation::decode(operation.encode()), operation);
                }
            }
        }
    }
}
