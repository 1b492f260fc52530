//! The one dial that a peer has in progress. Dropping it gives it up.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;

use tokio::net::TcpStream;

use crate::fsm::ConnId;
use crate::transport::Endpoint;

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

#[derive(Default)]
pub(crate) struct Dialling(Option<(ConnId, Dial)>);

impl Dialling {
    /// Gives up one in progress.
    pub(crate) fn start(&mut self, id: ConnId, endpoint: Endpoint) {
        self.0 = Some((id, Box::pin(endpoint.dial())));
    }

    pub(crate) fn give_up(&mut self, id: ConnId) {
        self.0.take_if(|(dialling, _)| *dialling == id);
    }

    /// Waits for what becomes of it; for ever where there is none.
    pub(crate) async fn outcome(&mut self) -> (ConnId, io::Result<TcpStream>) {
        let Some((id, dial)) = &mut self.0 else { return pending().await };
        let outcome = (*id, dial.await);
        self.0 = None;
        outcome
    }
}
