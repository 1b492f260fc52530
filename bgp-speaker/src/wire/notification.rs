//! NOTIFICATION (RFC 4271 §4.5): codes, the Cease subcodes (RFC 4486, RFC 8538), the shutdown communication (RFC 9003),
//! and all of it as text for people.

use bytes::BytesMut;

use super::header::{HEADER_LEN, MAX_MESSAGE_LEN, MessageKind, write_message};
use super::reader::Reader;

/// Error codes.
pub mod code {
    pub const HEADER: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const UPDATE: u8 = 3;
    pub const HOLD_TIMER: u8 = 4;
    pub const FSM: u8 = 5;
    pub const CEASE: u8 = 6;
    /// RFC 7313 §5.
    pub const ROUTE_REFRESH: u8 = 7;
    /// RFC 9687 §4.
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of the finite state machine error (RFC 6608 §3): which state got what it must not get.
pub mod fsm_error {
    pub const OPEN_SENT: u8 = 1;
    pub const OPEN_CONFIRM: u8 = 2;
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease that we send (RFC 4486 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cease {
    AdministrativeShutdown = 2,
    PeerDeconfigured = 3,
    AdministrativeReset = 4,
    ConnectionRejected = 5,
    OtherConfigurationChange = 6,
    ConnectionCollisionResolution = 7,
    /// RFC 9384.
    BfdDown = 10,
}

/// Hard Reset (RFC 8538 §3): wraps the code, subcode and data of the real reason.
const HARD_RESET: u8 = 9;
/// The longest shutdown communication (RFC 9003 §2).
const MAX_SHUTDOWN_TEXT: usize = 255;
const MAX_DATA: usize = MAX_MESSAGE_LEN - HEADER_LEN - 2;

/// A NOTIFICATION, sent or received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    code: u8,
    subcode: u8,
    data: Vec<u8>,
}

impl Notification {
    /// Data beyond what one message holds is cut off.
    pub fn new(code: u8, subcode: u8, mut data: Vec<u8>) -> Self {
        data.truncate(MAX_DATA);
        Notification { code, subcode, data }
    }

    /// A Cease; `text` goes along where RFC 9003 §2 allows it (Administrative Shutdown and Reset), cut to 255 octets.
    pub fn cease(reason: Cease, text: &str) -> Self {
        let data = match reason {
            Cease::AdministrativeShutdown | Cease::AdministrativeReset => {
                let text = text.get(..text.floor_char_boundary(MAX_SHUTDOWN_TEXT)).unwrap_or_default();
                let length = u8::try_from(text.len()).unwrap_or_default();
                std::iter::once(length).chain(text.bytes()).collect()
            }
            Cease::PeerDeconfigured
            | Cease::ConnectionRejected
            | Cease::OtherConfigurationChange
            | Cease::ConnectionCollisionResolution
            | Cease::BfdDown => Vec::new(),
        };
        Notification::new(code::CEASE, reason as u8, data)
    }

    pub fn code(&self) -> u8 {
        self.code
    }
    pub fn subcode(&self) -> u8 {
        self.subcode
    }
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// `None`: shorter than its two fixed octets, which the framer rules out.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (code, subcode) = (reader.u8()?, reader.u8()?);
        Some(Notification::new(code, subcode, reader.rest().to_vec()))
    }

    pub fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        write_message(&mut out, MessageKind::Notification, &[&[self.code, self.subcode], &self.data]);
        out
    }

    /// The name of code and subcode, and the shutdown text or the raw data where there is some.
    pub fn describe(&self) -> String {
        if self.code == code::CEASE && self.subcode == HARD_RESET {
            return match Notification::decode(&self.data) {
                // One level only: a hard reset inside a hard reset is shown as data.
                Some(inner) => format!("Cease/Hard Reset: {}", inner.describe_plain()),
                None => "Cease/Hard Reset".to_owned(),
            };
        }
        self.describe_plain()
    }

    fn describe_plain(&self) -> String {
        let name = name(self.code, self.subcode);
        let shutdown = self.code == code::CEASE
            && (self.subcode == Cease::AdministrativeShutdown as u8
                || self.subcode == Cease::AdministrativeReset as u8);
        match (shutdown, self.data.as_slice()) {
            (_, []) | (true, [0]) => name,
            (true, data) => format!("{name}: {}", shutdown_text(data)),
            (false, data) => format!("{name} (data {})", hex(data)),
        }
    }
}

/// The shutdown communication as printable text; what is not well-formed is shown as octets (RFC 9003 §2, §5).
fn shutdown_text(data: &[u8]) -> String {
    let text = Reader::new(data).block8().and_then(|text| std::str::from_utf8(text).ok());
    match text {
        Some(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        None => format!("not UTF-8, data {}", hex(data)),
    }
}

fn hex(data: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text: String = data.iter().take(SHOWN).map(|octet| format!("{octet:02x}")).collect();
    if data.len() > SHOWN {
        text.push('…');
    }
    text
}

/// Names by code, and within a code by subcode; "" is unassigned.
const NAMES: [(u8, &str, &[&str]); 8] = [
    (
        code::HEADER,
        "Message Header Error",
        &["", "Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
    ),
    (
        code::OPEN,
        "OPEN Message Error",
        &[
            "",
            "Unsupported Version Number",
            "Bad Peer AS",
            "Bad BGP Identifier",
            "Unsupported Optional Parameter",
            "Authentication Failure",
            "Unacceptable Hold Time",
            "Unsupported Capability",
            "",
            "",
            "",
            "Role Mismatch",
        ],
    ),
    (
        code::UPDATE,
        "UPDATE Message Error",
        &[
            "",
            "Malformed Attribute List",
            "Unrecognized Well-known Attribute",
            "Missing Well-known Attribute",
            "Attribute Flags Error",
            "Attribute Length Error",
            "Invalid ORIGIN Attribute",
            "AS Routing Loop",
            "Invalid NEXT_HOP Attribute",
            "Optional Attribute Error",
            "Invalid Network Field",
            "Malformed AS_PATH",
        ],
    ),
    (code::HOLD_TIMER, "Hold Timer Expired", &[]),
    (
        code::FSM,
        "Finite State Machine Error",
        &[
            "",
            "Unexpected Message in OpenSent",
            "Unexpected Message in OpenConfirm",
            "Unexpected Message in Established",
        ],
    ),
    (
        code::CEASE,
        "Cease",
        &[
            "",
            "Maximum Number of Prefixes Reached",
            "Administrative Shutdown",
            "Peer De-configured",
            "Administrative Reset",
            "Connection Rejected",
            "Other Configuration Change",
            "Connection Collision Resolution",
            "Out of Resources",
            "Hard Reset",
            "BFD Down",
        ],
    ),
    (code::ROUTE_REFRESH, "ROUTE-REFRESH Message Error", &["", "Invalid Message Length"]),
    (code::SEND_HOLD_TIMER, "Send Hold Timer Expired", &[]),
];

fn name(code: u8, subcode: u8) -> String {
    let Some((_, class, names)) = NAMES.into_iter().find(|(known, _, _)| *known == code) else {
        return format!("error code {code} subcode {subcode}");
    };
    match (names.get(usize::from(subcode)), subcode) {
        (Some(name), _) if !name.is_empty() => format!("{class}/{name}"),
        (_, 0) => class.to_owned(),
        (_, _) => format!("{class}/subcode {subcode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_is_sent_with_its_length_and_read_back() {
        let sent = Notification::cease(Cease::AdministrativeShutdown, "maintenance");
        assert_eq!((sent.code(), sent.subcode()), (6, 2));
        assert_eq!(sent.data(), b"\x0bmaintenance");
        let received = Notification::decode(&sent.encode()[HEADER_LEN..]).unwrap();
        assert_eq!(received.describe(), "Cease/Administrative Shutdown: maintenance");
    }

    #[test]
    fn a_shutdown_text_is_cut_to_255_octets_between_characters() {
        let sent = Notification::cease(Cease::AdministrativeReset, &"ü".repeat(200));
        assert_eq!(sent.data().len(), 255);
        assert_eq!(sent.data()[0], 254);
        assert!(std::str::from_utf8(&sent.data()[1..]).is_ok());
    }

    #[test]
    fn a_received_shutdown_text_can_neither_break_a_log_line_nor_lie_about_its_length() {
        let say = |data: &[u8]| Notification::new(6, 2, data.to_vec()).describe();
        assert_eq!(say(b"\x03a\nb"), "Cease/Administrative Shutdown: a b");
        assert_eq!(say(b"\xffab"), "Cease/Administrative Shutdown: not UTF-8, data ff6162");
        assert_eq!(say(b"\x01\xff"), "Cease/Administrative Shutdown: not UTF-8, data 01ff");
        assert_eq!(say(b"\x00"), "Cease/Administrative Shutdown");
    }

    #[test]
    fn a_hard_reset_shows_the_reason_it_wraps() {
        let inner = b"\x06\x04\x02hi";
        assert_eq!(
            Notification::new(6, 9, inner.to_vec()).describe(),
            "Cease/Hard Reset: Cease/Administrative Reset: hi"
        );
        assert_eq!(Notification::new(6, 9, vec![6]).describe(), "Cease/Hard Reset");
    }

    #[test]
    fn every_code_has_a_text_and_long_data_is_cut() {
        for code in 0..=255 {
            for subcode in 0..=255 {
                assert!(!Notification::new(code, subcode, vec![]).describe().is_empty());
            }
        }
        let long = Notification::new(3, 5, vec![7; 5000]);
        assert_eq!(long.encode().len(), MAX_MESSAGE_LEN);
        assert!(long.describe().len() < 150);
    }
}
