//! What a change of a peer's BFD session means to its BGP session. Pure: status in, news out.

use crate::bfd::{BfdStatus, DownReason, SessionState};

/// What there is to tell, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathNews {
    Up,
    Down(DownReason),
    /// The BGP session has to end (RFC 5882 §4.3). A path that never came Up, or is held down by an operator on either
    /// side, says nothing about it.
    Failed(DownReason),
}

/// What has been told of the path so far.
#[derive(Debug, Default)]
pub(crate) struct PathWatch {
    /// `None`: there was no BFD, or nobody has looked yet.
    told: Option<History>,
}

/// How often BFD came Up, left Up, and failed.
#[derive(Debug, Clone, Copy)]
struct History {
    ups: u64,
    downs: u64,
    failures: u64,
}

impl History {
    fn of(status: &BfdStatus) -> Self {
        History { ups: status.ups, downs: status.downs, failures: status.failures }
    }
}

impl PathWatch {
    /// BFD says something new, or is gone.
    pub(crate) fn changed(&mut self, status: Option<&BfdStatus>) -> impl Iterator<Item = PathNews> + use<> {
        let now = status.map(History::of);
        let before = std::mem::replace(&mut self.told, now);
        let news = status.zip(now).map(|(status, now)| news(status, now, before));
        news.into_iter().flatten().flatten()
    }
}

fn news(status: &BfdStatus, now: History, before: Option<History>) -> [Option<PathNews>; 3] {
    // What was before we looked for the first time is history, but for the state it led to.
    let is_up = status.state == SessionState::Up;
    let before = before.unwrap_or(History { ups: now.ups - u64::from(is_up), ..now });
    let down = status.last_down.filter(|_| now.downs > before.downs);
    [
        (now.ups > before.ups).then_some(PathNews::Up),
        down.map(PathNews::Down),
        down.filter(|_| now.failures > before.failures).map(PathNews::Failed),
    ]
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    /// A path that has gone through these, with a reason for each time it left Up.
    fn path(changes: &[(SessionState, Option<DownReason>)]) -> BfdStatus {
        #[allow(clippy::disallowed_methods, reason = "any instant will do")]
        let now = std::time::Instant::now();
        let mut status = BfdStatus::new(NonZeroU32::MIN, false, false, now);
        changes.iter().for_each(|(to, reason)| status.changed(*to, *reason, now));
        status
    }

    fn told(watch: &mut PathWatch, status: &BfdStatus) -> Vec<PathNews> {
        watch.changed(Some(status)).collect()
    }

    const UP: (SessionState, Option<DownReason>) = (SessionState::Up, None);

    #[test]
    fn a_path_that_came_up_before_anybody_looked_is_told_as_up_once() {
        let mut watch = PathWatch::default();
        assert_eq!(told(&mut watch, &path(&[UP])), [PathNews::Up]);
        assert_eq!(told(&mut watch, &path(&[UP])), []);
    }

    #[test]
    fn what_failed_before_anybody_looked_is_history_and_what_fails_after_is_not() {
        let failed = DownReason::NeighborDown;
        let down = (SessionState::Down, Some(failed));
        let mut watch = PathWatch::default();
        assert_eq!(told(&mut watch, &path(&[UP, down])), []);
        let again = path(&[UP, down, UP, down]);
        assert_eq!(
            told(&mut watch, &again),
            [PathNews::Up, PathNews::Down(failed), PathNews::Failed(failed)]
        );
    }

    #[test]
    fn a_path_that_an_operator_holds_down_has_not_failed() {
        let held = DownReason::NeighborAdminDown;
        let mut watch = PathWatch::default();
        told(&mut watch, &path(&[UP]));
        let down = path(&[UP, (SessionState::Down, Some(held))]);
        assert_eq!(told(&mut watch, &down), [PathNews::Down(held)]);
    }
}
