//! Closed connections whose last octets may still get through: a bounded number of tasks, each with a deadline. The rest
//! are closed at once.
#![allow(clippy::disallowed_methods, reason = "this driver owns the deadlines of closed connections")]

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connection::Connection;

const MAX_LINGERING: usize = 16;
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Lingering(JoinSet<()>);

impl Lingering {
    pub(crate) fn add(&mut self, connection: Connection) {
        if self.0.len() < MAX_LINGERING {
            self.0.spawn(connection.linger(Instant::now() + LINGER));
        }
    }

    pub(crate) fn forget_ended(&mut self) {
        while self.0.try_join_next().is_some() {}
    }

    pub(crate) async fn all_ended(&mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
