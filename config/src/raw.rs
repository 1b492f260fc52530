//! The file as it was written: every key read by type and range and with its place, defaults filled in, nothing
//! compared with anything else yet. Whatever is refused is a finding, and the reading goes on.
//!
//! This is no `serde` mirror: see `reader.rs` for why.

mod attributes;
mod bgp;
mod contrail;
mod service;
mod vip;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

pub(crate) use self::attributes::BANDWIDTHS;
pub(crate) use self::bgp::{BFD, RawBgp, RawPeer};
pub(crate) use self::contrail::RawContrail;
pub(crate) use self::service::{RawBackend, RawCheck, RawRoute, RawService, WhichClients, default_name};
pub(crate) use self::vip::RawVip;
use crate::findings::{At, Finding, Findings};
use crate::model::{AccessLog, AdminAuth, Engine, Global, Log, LogFormat, LogLevel, LogTarget};
use crate::reader::Table;
use crate::schema;
use crate::value::{
    Refused, SOCKET_PATH, choice, duration, integer, limit, listen_address, log_target, or_empty, path, text,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// The whole file.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) contrail: Option<RawContrail>,
    pub(crate) global: Global,
    pub(crate) admin: RawAdmin,
    /// `None`: no `[bgp]` table.
    pub(crate) bgp: Option<RawBgp>,
    pub(crate) vips: Vec<RawVip>,
    pub(crate) services: Vec<RawService>,
}

/// `[admin]`.
#[derive(Debug)]
pub(crate) struct RawAdmin {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) listen: At<Option<SocketAddr>>,
    /// At its `password_file`.
    pub(crate) auth: Option<At<AdminAuth>>,
}

impl Raw {
    pub(crate) fn read(document: &DeTable<'_>, findings: &mut Findings) -> Self {
        let mut root = Table::root(document, &schema::ROOT, findings);
        Raw {
            contrail: root
                .has("contrail")
                .then(|| RawContrail::read(root.table("contrail", &schema::CONTRAIL))),
            global: read_global(root.table("global", &schema::GLOBAL)),
            admin: read_admin(root.table("admin", &schema::ADMIN)),
            bgp: root.has("bgp").then(|| RawBgp::read(root.table("bgp", &schema::BGP))),
            vips: read_each(&mut root, "vip", &schema::VIP, RawVip::read),
            services: read_each(&mut root, "service", &schema::SERVICE, RawService::read),
        }
    }
}

/// A list of tables, each read by `read`.
fn read_each<'a, T>(
    table: &mut Table<'a, '_>,
    key: &'static str,
    section: &'static schema::Section,
    read: impl Fn(Table<'a, '_>) -> T,
) -> Vec<T> {
    let nodes = table.tables(key, section);
    nodes.into_iter().map(|node| read(table.open(node, section))).collect()
}

fn read_global(mut global: Table<'_, '_>) -> Global {
    const ENGINES: &[(&str, Option<Engine>)] =
        &[("auto", Some(Engine::Auto)), ("io_uring", Some(Engine::IoUring)), ("epoll", Some(Engine::Epoll))];
    let threads = global.value("threads", integer(0..=1024usize), 0).value;
    let max_connections = global.value("max_connections", limit, None).value;
    let engine = global.value("engine", choice(ENGINES), Engine::Auto).value;
    let drain_timeout =
        global.value("drain_timeout", duration(Duration::ZERO..=DAY), Duration::from_secs(30)).value;
    let log = read_log(global.table("log", &schema::LOG));
    Global { threads: (threads != 0).then_some(threads), max_connections, engine, drain_timeout, log }
}

fn read_log(mut log: Table<'_, '_>) -> Log {
    const LEVELS: &[(&str, Option<LogLevel>)] = &[
        ("error", Some(LogLevel::Error)),
        ("warn", Some(LogLevel::Warn)),
        ("info", Some(LogLevel::Info)),
        ("debug", Some(LogLevel::Debug)),
        ("trace", Some(LogLevel::Trace)),
    ];
    const FORMATS: &[(&str, Option<LogFormat>)] =
        &[("text", Some(LogFormat::Text)), ("json", Some(LogFormat::Json))];
    const ACCESS: &[(&str, Option<AccessLog>)] = &[
        ("off", Some(AccessLog::Off)),
        ("tcplog", Some(AccessLog::Tcplog)),
        ("json", Some(AccessLog::Json)),
    ];
    Log {
        level: log.value("level", choice(LEVELS), LogLevel::Info).value,
        format: log.value("format", choice(FORMATS), LogFormat::Text).value,
        target: log.value("target", log_target, LogTarget::Stderr).value,
        access: log.value("access", choice(ACCESS), AccessLog::Off).value,
    }
}

fn read_admin(mut admin: Table<'_, '_>) -> RawAdmin {
    let socket = or_empty(|value| {
        let socket = path(value)?;
        let fits = socket.as_os_str().len() <= SOCKET_PATH;
        fits.then_some(socket)
            .ok_or_else(|| Refused::expected(format!("a path of at most {SOCKET_PATH} bytes")))
    });
    let default_socket = PathBuf::from("/run/contrail-lb/admin.sock");
    let default_listen = SocketAddr::from(([127, 0, 0, 1], 5937));
    let socket = admin.value("socket", socket, Some(default_socket)).value;
    let listen = admin.value("listen", or_empty(listen_address), Some(default_listen));
    let auth = read_auth(&mut admin);
    if let (Some(address), None) = (listen.value, &auth)
        && !address.ip().is_loopback()
    {
        let finding = Finding::warning(&listen.place, format!("whoever reaches {address} needs no password"));
        admin.findings.push(finding.expected("a loopback address, or `user` and `password_file`"));
    }
    RawAdmin { socket, listen, auth }
}

fn read_auth(admin: &mut Table<'_, '_>) -> Option<At<AdminAuth>> {
    let user = admin.optional("user", or_empty(text(USER, |user| is_user(user).then(|| user.to_owned()))));
    let password_file = admin.optional("password_file", or_empty(path));
    let is_refused =
        (admin.has("user") && user.is_none()) || (admin.has("password_file") && password_file.is_none());
    let (alone, partner) = match (user, password_file) {
        (Some(At { value: Some(user), .. }), Some(At { value: Some(password_file), place })) => {
            return Some(At { value: AdminAuth { user, password_file }, place });
        }
        (Some(user), _) if user.value.is_some() => (user.place, "password_file"),
        (_, Some(file)) if file.value.is_some() => (file.place, "user"),
        _ => return None,
    };
    if !is_refused {
        let finding = Finding::error(&alone, format!("HTTP basic auth needs `{partner}` too"));
        admin.findings.push(finding.expected("both `user` and `password_file`, or neither"));
    }
    None
}

const USER: &str = "a user name without a colon or control characters (RFC 7617)";

fn is_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && !text.contains(|c: char| c == ':' || c.is_control())
}
