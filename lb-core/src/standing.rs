//! What the control side says of a backend: the one thing that the data plane is told about it while it runs.

/// Whether new connections may go to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligible {
    Yes,
    No,
}

/// How a backend stands: whether it is used, and how much of what the configuration gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub eligible: Eligible,
    /// 0..=100 of the configured weight; more counts as 100. 0: no new connections, as while it drains.
    pub weight_percent: u8,
    /// Instead of the configured limit on connections.
    pub max_connections: Option<u32>,
}

impl Standing {
    /// Not used: all that is known of a backend at first.
    pub const DOWN: Standing =
        Standing { eligible: Eligible::No, weight_percent: 100, max_connections: None };
    /// Used as configured.
    pub const UP: Standing = Standing { eligible: Eligible::Yes, ..Standing::DOWN };

    /// Whether it gets new connections, as far as this goes.
    pub fn takes_connections(self) -> bool {
        self.eligible == Eligible::Yes && self.weight_percent > 0
    }

    /// One word, so that whoever reads it while it changes sees all of the old one or all of the new one.
    pub(crate) fn encode(self) -> u64 {
        let eligible = u64::from(self.eligible == Eligible::Yes);
        let limit = self.max_connections.map_or(0, |limit| 1 << 32 | u64::from(limit));
        eligible << 63 | u64::from(self.weight_percent.min(100)) << 40 | limit
    }

    pub(crate) fn decode(word: u64) -> Self {
        Standing {
            eligible: if word >> 63 == 1 { Eligible::Yes } else { Eligible::No },
            weight_percent: (word >> 40) as u8,
            max_connections: (word >> 32 & 1 == 1).then_some(word as u32),
        }
    }
}

impl From<Eligible> for Standing {
    fn from(eligible: Eligible) -> Self {
        match eligible {
            Eligible::Yes => Standing::UP,
            Eligible::No => Standing::DOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_holds_all_of_it() {
        for eligible in [Eligible::Yes, Eligible::No] {
            for weight_percent in [0, 1, 100] {
                for max_connections in [None, Some(0), Some(1), Some(u32::MAX)] {
                    let standing = Standing { eligible, weight_percent, max_connections };
                    assert_eq!(Standing::decode(standing.encode()), standing);
                }
            }
        }
    }
}
