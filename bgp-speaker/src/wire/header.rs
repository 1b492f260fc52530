//! The message header (RFC 4271 §4.1) and the framer that cuts a byte stream into messages.
//!
//! The framer holds at most what one read brought plus one unfinished message, and hands out exactly one whole message
//! at a time; a header that is wrong is an error before its body is looked at (§6.1).

use bytes::{Buf, BufMut, BytesMut};

use super::error::WireError;
use super::reader::Reader;

/// Octets of marker, length and type.
pub const HEADER_LEN: usize = 19;
/// The longest message (RFC 4271 §4), and the longest we send.
pub const MAX_MESSAGE_LEN: usize = 4096;
/// The longest message but OPEN and KEEPALIVE once both sides said so (RFC 8654 §4).
pub const MAX_EXTENDED_MESSAGE_LEN: usize = 65_535;
/// What the framer is ready to take in one read.
const READ_AHEAD: usize = 16 * 1024;

/// Message types (RFC 4271 §4.1, RFC 2918 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

impl MessageKind {
    fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(MessageKind::Open),
            2 => Some(MessageKind::Update),
            3 => Some(MessageKind::Notification),
            4 => Some(MessageKind::Keepalive),
            5 => Some(MessageKind::RouteRefresh),
            _ => None,
        }
    }

    /// The shortest and longest whole message of this type (RFC 4271 §6.1) where any may have `longest` octets.
    fn lengths(self, longest: usize) -> (usize, usize) {
        match self {
            MessageKind::Open => (29, MAX_MESSAGE_LEN),
            MessageKind::Update => (23, longest),
            MessageKind::Notification => (21, longest),
            MessageKind::Keepalive => (HEADER_LEN, HEADER_LEN),
            MessageKind::RouteRefresh => (23, longest),
        }
    }
}

/// One whole message whose header is right; its body is not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: MessageKind,
    pub body: &'a [u8],
}

/// Cuts a stream into messages. After an error the stream has lost its place: read no further.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Octets at the front that the previous [`Framer::next_frame`] handed out.
    handed_out: usize,
    /// Messages may have up to [`MAX_EXTENDED_MESSAGE_LEN`] octets.
    extended: bool,
}

impl Framer {
    /// From the next message on, all but OPEN and KEEPALIVE may be longer (RFC 8654).
    pub fn extend_messages(&mut self) {
        self.extended = true;
    }

    /// Where the next read goes; bounded, and never empty.
    pub fn space(&mut self) -> impl BufMut + '_ {
        self.buffer.advance(std::mem::take(&mut self.handed_out));
        self.buffer.reserve(READ_AHEAD);
        (&mut self.buffer).limit(READ_AHEAD)
    }

    /// The next whole message, `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        self.buffer.advance(std::mem::take(&mut self.handed_out));
        let mut reader = Reader::new(&self.buffer);
        let Some(header) = reader.array::<HEADER_LEN>() else { return Ok(None) };
        let longest = if self.extended { MAX_EXTENDED_MESSAGE_LEN } else { MAX_MESSAGE_LEN };
        let (kind, length) = parse_header(&header, longest)?;
        let Some(body) = reader.take(length - HEADER_LEN) else { return Ok(None) };
        self.handed_out = length;
        Ok(Some(Frame { kind, body }))
    }
}

/// Marker, then length, then type, then the length for that type. The length returned is at least [`HEADER_LEN`].
fn parse_header(header: &[u8; HEADER_LEN], longest: usize) -> Result<(MessageKind, usize), WireError> {
    let [marker @ .., high, low, kind] = header;
    if marker.iter().any(|&octet| octet != 0xFF) {
        return Err(WireError::NotSynchronized);
    }
    let stated = u16::from_be_bytes([*high, *low]);
    let length = usize::from(stated);
    if !(HEADER_LEN..=longest).contains(&length) {
        return Err(WireError::BadLength(stated));
    }
    let kind = MessageKind::from_wire(*kind).ok_or(WireError::BadType(*kind))?;
    let (shortest, longest) = kind.lengths(longest);
    if !(shortest..=longest).contains(&length) {
        return Err(WireError::BadLength(stated));
    }
    Ok((kind, length))
}

/// Appends one message. The body must fit [`MAX_MESSAGE_LEN`]; every caller builds it so.
pub(crate) fn write_message(out: &mut BytesMut, kind: MessageKind, body: &[&[u8]]) {
    let length = HEADER_LEN + body.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(length <= MAX_MESSAGE_LEN, "a message of {length} octets");
    out.reserve(length);
    out.put_bytes(0xFF, 16);
    out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put_u8(kind as u8);
    for part in body {
        out.put_slice(part);
    }
}

/// A KEEPALIVE (RFC 4271 §4.4).
pub fn keepalive() -> BytesMut {
    let mut out = BytesMut::new();
    write_message(&mut out, MessageKind::Keepalive, &[]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer_of(bytes: &[u8]) -> Framer {
        let mut framer = Framer::default();
        framer.space().put_slice(bytes);
        framer
    }

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    #[test]
    fn a_message_that_comes_one_octet_at_a_time_is_handed_out_when_its_last_octet_is_there() {
        let message = keepalive();
        let mut framer = Framer::default();
        for (index, octet) in message.iter().enumerate() {
            framer.space().put_u8(*octet);
            let complete = framer.next_frame().unwrap().is_some();
            assert_eq!(complete, index + 1 == message.len());
        }
    }

    #[test]
    fn two_messages_in_one_read_are_handed_out_one_after_the_other() {
        let mut bytes = header(23, 2);
        bytes.extend([0, 0, 0, 0]);
        bytes.extend_from_slice(&keepalive());
        let mut framer = framer_of(&bytes);
        assert_eq!(
            framer.next_frame().unwrap(),
            Some(Frame { kind: MessageKind::Update, body: &[0, 0, 0, 0] })
        );
        assert_eq!(framer.next_frame().unwrap(), Some(Frame { kind: MessageKind::Keepalive, body: &[] }));
        assert_eq!(framer.next_frame().unwrap(), None);
    }

    #[test]
    fn a_marker_that_is_not_all_ones_is_connection_not_synchronized() {
        for position in 0..16 {
            let mut bytes = header(19, 4);
            bytes[position] = 0xFE;
            let error = framer_of(&bytes).next_frame().unwrap_err();
            assert_eq!(error.notification(), Notification::new(1, 1, vec![]));
        }
    }

    #[test]
    fn a_length_outside_what_the_type_allows_is_bad_message_length_with_that_length() {
        let wrong =
            [(0, 4), (18, 1), (4097, 2), (65535, 2), (28, 1), (22, 2), (20, 3), (18, 4), (20, 4), (22, 5)];
        for (length, kind) in wrong {
            let error = framer_of(&header(length, kind)).next_frame().unwrap_err();
            let expected = Notification::new(1, 2, length.to_be_bytes().to_vec());
            assert_eq!(error.notification(), expected, "type {kind}");
        }
    }

    #[test]
    fn extended_messages_may_be_65535_octets_long_but_neither_open_nor_keepalive() {
        let mut framer = Framer::default();
        framer.extend_messages();
        let mut bytes = header(65_535, 2);
        bytes.resize(65_535, 0);
        for piece in bytes.chunks(10_000) {
            assert_eq!(framer.next_frame().unwrap(), None);
            framer.space().put_slice(piece);
        }
        assert_eq!(framer.next_frame().unwrap().map(|frame| frame.body.len()), Some(65_535 - HEADER_LEN));
        for (length, kind) in [(4097, 1), (20, 4), (4097, 4)] {
            let mut framer = framer_of(&header(length, kind));
            framer.extend_messages();
            assert_eq!(framer.next_frame().unwrap_err(), WireError::BadLength(length));
        }
    }

    #[test]
    fn an_unknown_type_is_bad_message_type_with_that_type() {
        for kind in [0, 6, 255] {
            let error = framer_of(&header(19, kind)).next_frame().unwrap_err();
            assert_eq!(error.notification(), Notification::new(1, 3, vec![kind]));
        }
    }

    #[test]
    fn the_length_is_looked_at_before_the_type_and_the_marker_before_both() {
        let mut bytes = header(3, 99);
        assert_eq!(framer_of(&bytes).next_frame().unwrap_err(), WireError::BadLength(3));
        bytes[0] = 0;
        assert_eq!(framer_of(&bytes).next_frame().unwrap_err(), WireError::NotSynchronized);
    }

    use super::super::notification::Notification;
}
