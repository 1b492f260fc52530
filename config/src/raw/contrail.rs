//! `[contrail]` as it was written; what it stands for is in `presets.rs`.

use std::net::IpAddr;

use crate::findings::Place;
use crate::presets::{ANALYTICS_PORT, API_PORT, DISCOVERY_PORT};
use crate::reader::{List, Table};
use crate::value::{Node, global_address, integer, node};

/// `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawContrail {
    pub(crate) vips: List<IpAddr>,
    pub(crate) controllers: List<Node>,
    /// Not given: no analytics service.
    pub(crate) analytics: List<Node>,
    /// Of the backends.
    pub(crate) api_port: u16,
    pub(crate) discovery_port: u16,
    pub(crate) analytics_port: u16,
    pub(crate) place: Place,
}

impl RawContrail {
    pub(crate) fn read(mut contrail: Table<'_, '_>) -> Self {
        let vips = contrail.required_list("vip", global_address);
        let controllers = contrail.required_list("controller_nodes", node);
        let analytics = contrail.list("analytics_nodes", node);
        let mut port = |key, default| contrail.value(key, integer(1..=u16::MAX), default).value;
        RawContrail {
            api_port: port("api_port", API_PORT),
            discovery_port: port("discovery_port", DISCOVERY_PORT),
            analytics_port: port("analytics_port", ANALYTICS_PORT),
            vips,
            controllers,
            analytics,
            place: contrail.place,
        }
    }
}
