//! [`Config`] as text: the long form with every built key written out, which parses back to an equal [`Config`]. Pure.

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::duration;
use crate::model::{AccessLog, Admin, Config, Engine, Global, LogFormat, LogLevel, LogTarget};

mod bgp;
mod service;

/// The long form of `config`, in TOML.
pub fn expand(config: &Config) -> String {
    let mut out = Text::default();
    global(&mut out, &config.global);
    admin(&mut out, &config.admin);
    if let Some(bgp) = &config.bgp {
        bgp::bgp(&mut out, bgp);
    }
    for vip in &config.vips {
        bgp::vip(&mut out, vip);
    }
    for service in &config.services {
        service::service(&mut out, service);
    }
    out.0
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn header(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.push(format_args!("{gap}{header}\n"));
    }

    /// `value` is TOML already.
    fn key(&mut self, key: &str, value: impl Display) {
        self.push(format_args!("{key} = {value}\n"));
    }

    /// A table on one line; the values are TOML already.
    fn inline(&mut self, key: &str, pairs: &[(&str, String)]) {
        let pairs = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>();
        self.key(key, format_args!("{{ {} }}", pairs.join(", ")));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

fn global(out: &mut Text, global: &Global) {
    out.header("[global]");
    out.key("threads", global.threads.unwrap_or(0));
    out.key("max_connections", global.max_connections.unwrap_or(0));
    let engine = match global.engine {
        Engine::Auto => "auto",
        Engine::IoUring => "io_uring",
        Engine::Epoll => "epoll",
    };
    out.key("engine", quoted(engine));
    out.key("drain_timeout", time(global.drain_timeout));
    out.header("[global.log]");
    let level = match global.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let format = match global.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.key("level", quoted(level));
    out.key("format", quoted(format));
    let target = match global.log.target {
        LogTarget::Stderr => "stderr".to_owned(),
        LogTarget::Journald => "journald".to_owned(),
        LogTarget::Syslog => "syslog".to_owned(),
        LogTarget::SyslogUdp(address) => format!("syslog://{address}"),
    };
    let access = match global.log.access {
        AccessLog::Off => "off",
        AccessLog::Tcplog => "tcplog",
        AccessLog::Json => "json",
    };
    out.key("target", quoted(target));
    out.key("access", quoted(access));
}

fn admin(out: &mut Text, admin: &Admin) {
    out.header("[admin]");
    out.key("socket", or_empty(admin.socket.as_ref().map(|path| path.display())));
    out.key("listen", or_empty(admin.listen));
    let auth = admin.auth.as_ref();
    out.key("user", or_empty(auth.map(|auth| &auth.user)));
    out.key("password_file", or_empty(auth.map(|auth| auth.password_file.display())));
}

/// A TOML basic string (TOML 1.0 §String): on one line, whatever is in it.
fn quoted(value: impl Display) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", value.to_string().chars().map(escape).collect::<String>())
}

/// `""` stands for none.
fn or_empty(value: Option<impl Display>) -> String {
    value.map_or_else(|| quoted(""), quoted)
}

fn time(value: Duration) -> String {
    quoted(duration::format(value))
}

fn addresses(values: &[SocketAddr]) -> String {
    list(values.iter().map(quoted))
}

fn list(values: impl Iterator<Item = impl Display>) -> String {
    format!("[{}]", values.map(|value| value.to_string()).collect::<Vec<_>>().join(", "))
}
