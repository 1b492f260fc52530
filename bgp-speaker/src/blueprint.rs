//! What a peer's task is made of. Plain data.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::bfd::BfdStatus;
use crate::fsm::Params;
use crate::observer::Observer;
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::transport::Endpoint;

/// A task that died is made again of the same.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) params: Params,
    pub(crate) endpoint: Endpoint,
    pub(crate) policy: Policy,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) seed: u64,
    pub(crate) desired: watch::Receiver<Arc<RouteSet>>,
    pub(crate) observer: Observer,
    /// `None` in it: no BFD with this peer.
    pub(crate) bfd: watch::Receiver<Option<BfdStatus>>,
}
