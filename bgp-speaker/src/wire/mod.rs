//! BGP messages as bytes: framing, the five message types, and which NOTIFICATION each defect deserves.
//!
//! Pure: no socket, clock or session state. This is the only place that touches bytes from a peer before anything is
//! believed about them; nothing here panics, allocates without bound or accepts what RFC 4271 §6 and RFC 7606 refuse.

mod attribute;
mod capability;
mod error;
mod header;
mod nlri;
mod notification;
mod open;
mod path;
mod reader;
mod refresh;
pub(crate) mod role;
mod update;

pub use attribute::{AttributeContext, Disposition};
pub(crate) use attribute::{MP_REACH_NLRI, MP_UNREACH_NLRI};
pub use capability::Capability;
pub use error::WireError;
pub(crate) use header::write_message;
pub use header::{
    Frame, Framer, HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MessageKind, keepalive,
};
pub use nlri::{Prefixes, afi, family_of};
pub(crate) use nlri::{encoded_len, write_prefix};
pub use notification::{Cease, Notification, code, fsm_error};
pub use open::Open;
pub use path::Path;
pub use refresh::{Refresh, RefreshKind};
pub use role::number as role_number;
pub use update::Update;

/// SAFI 1: unicast (RFC 4760 §6); the only one we speak.
pub const SAFI_UNICAST: u8 = 1;
