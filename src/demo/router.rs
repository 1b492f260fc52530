//! The demo's router: a BGP receiver that accepts one session and keeps what it learns, to be looked at.
//!
//! It decodes with bgpkit-parser, not with our own speaker's code: what it shows is what an independent reader of the
//! wire understood.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bgpkit_parser::models::{AsnLength, AttributeValue, BgpMessage, BgpUpdateMessage};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

pub const ROUTER_AS: u16 = 64500;
const HOLD_SECONDS: u16 = 9;
const HEADER: usize = 19;
const MARKER: [u8; 16] = [0xff; 16];
const KEEPALIVE: u8 = 4;
const OPEN: u8 = 1;

/// What the router knows now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learnt {
    pub established: bool,
    /// Prefix → attributes in words.
    pub routes: BTreeMap<String, String>,
    /// Why the last session ended.
    pub last_end: Option<String>,
}

/// A handle to look at the router's table.
#[derive(Clone, Default)]
pub struct Router {
    learnt: Arc<Mutex<Learnt>>,
    changed: Arc<Notify>,
}

impl Router {
    pub fn start(listener: TcpListener, identifier: Ipv4Addr) -> Self {
        let router = Router::default();
        let own = router.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let end = own.session(stream, identifier).await;
                own.update(|learnt| {
                    let last_end = Some(end.unwrap_or_else(|e| format!("connection lost: {e}")));
                    *learnt = Learnt { last_end, ..Learnt::default() };
                });
            }
        });
        router
    }

    pub fn learnt(&self) -> Learnt {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves after the next change of the table.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn update(&self, change: impl FnOnce(&mut Learnt)) {
        change(&mut self.learnt.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// One session, until the peer ends it; the text says how.
    async fn session(&self, mut stream: TcpStream, identifier: Ipv4Addr) -> io::Result<String> {
        stream.write_all(&open(identifier)).await?;
        loop {
            let hold = Duration::from_secs(u64::from(HOLD_SECONDS));
            let message = timeout(hold, read_message(&mut stream)).await??;
            match parse_bgp_message(&mut message.clone(), false, &AsnLength::Bits32) {
                Ok(BgpMessage::Open(_)) => stream.write_all(&message_of(KEEPALIVE, &[])).await?,
                Ok(BgpMessage::KeepAlive) => {
                    self.update(|learnt| learnt.established = true);
                    stream.write_all(&message_of(KEEPALIVE, &[])).await?;
                }
                Ok(BgpMessage::Update(update)) => self.update(|learnt| apply(&mut learnt.routes, &update)),
                Ok(BgpMessage::Notification(n)) => return Ok(format!("NOTIFICATION {:?}", n.error)),
                Ok(BgpMessage::RouteRefresh(_)) => {}
                Err(error) => return Ok(format!("undecodable message: {error}")),
            }
        }
    }
}

fn apply(routes: &mut BTreeMap<String, String>, update: &BgpUpdateMessage) {
    for withdrawn in &update.withdrawn_prefixes {
        routes.remove(&withdrawn.prefix.to_string());
    }
    let text = attributes(update);
    for announced in &update.announced_prefixes {
        routes.insert(announced.prefix.to_string(), text.clone());
    }
}

fn attributes(update: &BgpUpdateMessage) -> String {
    let mut words = Vec::new();
    for value in &update.attributes {
        match value {
            AttributeValue::NextHop(hop) => words.push(format!("via {hop}")),
            AttributeValue::AsPath(path) => words.push(format!("AS path {path}")),
            AttributeValue::MultiExitDiscriminator(med) => words.push(format!("MED {med}")),
            AttributeValue::Communities(all) => {
                words.extend(all.iter().map(|community| format!("community {community}")));
            }
            _ => {}
        }
    }
    words.join(", ")
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut header = [0u8; HEADER];
    stream.read_exact(&mut header).await?;
    let [.., high, low, _kind] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(HEADER..=4096).contains(&length) {
        return Err(io::Error::other(format!("a BGP message of {length} octets")));
    }
    let mut message = header.to_vec();
    message.resize(length, 0);
    if let Some(body) = message.get_mut(HEADER..) {
        stream.read_exact(body).await?;
    }
    Ok(Bytes::from(message))
}

/// OPEN (RFC 4271 §4.2) with 4-octet AS numbers (RFC 6793) and IPv4 unicast (RFC 4760).
fn open(identifier: Ipv4Addr) -> Vec<u8> {
    let asn = ROUTER_AS.to_be_bytes();
    let mut body = vec![4];
    body.extend(asn);
    body.extend(HOLD_SECONDS.to_be_bytes());
    body.extend(identifier.octets());
    let capabilities = [&[2, 6, 1, 4, 0, 1, 0, 1][..], &[2, 6, 65, 4, 0, 0], &asn].concat();
    body.push(capabilities.len() as u8);
    body.extend(capabilities);
    message_of(OPEN, &body)
}

fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u16;
    [&MARKER[..], &length.to_be_bytes(), &[kind], body].concat()
}
