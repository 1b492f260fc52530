//! Every defect a message can have, and the one NOTIFICATION it maps to (RFC 4271 §6.1–6.3, RFC 5492, RFC 7313 §5,
//! RFC 9234 §4.2).

use super::notification::{Notification, code};

/// Why a message was refused, with the data field its NOTIFICATION carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the marker is not all ones")]
    NotSynchronized,
    #[error("message length {0} is outside what its type allows")]
    BadLength(u16),
    #[error("message type {0} is unknown")]
    BadType(u8),
    #[error("the OPEN's optional parameters are malformed")]
    MalformedOpen,
    #[error("BGP version {0} is not spoken here")]
    UnsupportedVersion(u8),
    #[error("the peer says it is AS {got}, configured is AS {expected}")]
    BadPeerAs { got: u32, expected: u32 },
    #[error("BGP identifier {0} is zero, or our own on an internal session")]
    BadIdentifier(std::net::Ipv4Addr),
    #[error("optional parameter {0} is unknown")]
    UnsupportedParameter(u8),
    #[error("hold time {0} s is neither 0 nor at least 3 s")]
    UnacceptableHoldTime(u16),
    /// Carries the capabilities we would need, encoded (RFC 5492 §5).
    #[error("no address family in common")]
    NoCommonFamily(Vec<u8>),
    /// RFC 9234 §4.2; what the peer says, and what it should.
    #[error("the peer {got}, expected role {expected}")]
    RoleMismatch { got: String, expected: &'static str },
    #[error("the UPDATE's lengths contradict each other, or MP_REACH_NLRI or MP_UNREACH_NLRI is repeated")]
    MalformedAttributeList,
    /// Carries the attribute, header and all; likewise below.
    #[error("a well-known attribute is not known")]
    UnrecognizedWellKnown(Vec<u8>),
    #[error("well-known attribute {0} is missing")]
    MissingWellKnown(u8),
    #[error("attribute flags contradict the attribute's type")]
    AttributeFlags(Vec<u8>),
    #[error("an attribute's length does not fit its type")]
    AttributeLength(Vec<u8>),
    #[error("ORIGIN is none of IGP, EGP and INCOMPLETE")]
    InvalidOrigin(Vec<u8>),
    #[error("an optional attribute is malformed")]
    OptionalAttribute(Vec<u8>),
    #[error("a prefix is longer than its family allows, or cut off")]
    InvalidNetworkField,
    #[error("AS_PATH is malformed")]
    MalformedAsPath,
    /// Carries the whole message.
    #[error("a demarcated ROUTE-REFRESH is not four octets long")]
    RefreshLength(Vec<u8>),
}

impl WireError {
    /// The NOTIFICATION that tells the peer. Total: a new defect does not compile without one.
    pub fn notification(&self) -> Notification {
        let (code, subcode, data) = match self {
            WireError::NotSynchronized => (code::HEADER, 1, Vec::new()),
            WireError::BadLength(length) => (code::HEADER, 2, length.to_be_bytes().to_vec()),
            WireError::BadType(kind) => (code::HEADER, 3, vec![*kind]),
            WireError::MalformedOpen => (code::OPEN, 0, Vec::new()),
            WireError::UnsupportedVersion(_) => (code::OPEN, 1, vec![0, 4]),
            WireError::BadPeerAs { .. } => (code::OPEN, 2, Vec::new()),
            WireError::BadIdentifier(_) => (code::OPEN, 3, Vec::new()),
            WireError::UnsupportedParameter(_) => (code::OPEN, 4, Vec::new()),
            WireError::UnacceptableHoldTime(_) => (code::OPEN, 6, Vec::new()),
            WireError::NoCommonFamily(wanted) => (code::OPEN, 7, wanted.clone()),
            WireError::RoleMismatch { .. } => (code::OPEN, 11, Vec::new()),
            WireError::MalformedAttributeList => (code::UPDATE, 1, Vec::new()),
            WireError::UnrecognizedWellKnown(attribute) => (code::UPDATE, 2, attribute.clone()),
            WireError::MissingWellKnown(kind) => (code::UPDATE, 3, vec![*kind]),
            WireError::AttributeFlags(attribute) => (code::UPDATE, 4, attribute.clone()),
            WireError::AttributeLength(attribute) => (code::UPDATE, 5, attribute.clone()),
            WireError::InvalidOrigin(attribute) => (code::UPDATE, 6, attribute.clone()),
            WireError::OptionalAttribute(attribute) => (code::UPDATE, 9, attribute.clone()),
            WireError::InvalidNetworkField => (code::UPDATE, 10, Vec::new()),
            WireError::MalformedAsPath => (code::UPDATE, 11, Vec::new()),
            WireError::RefreshLength(message) => (code::ROUTE_REFRESH, 1, message.clone()),
        };
        Notification::new(code, subcode, data)
    }
}
