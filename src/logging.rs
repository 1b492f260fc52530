//! Where log records go and how they look. Set once at start; the level can be changed by a reload.

use config::{Log, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Changes the level of the running log.
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    pub fn set(&self, level: LogLevel) {
        // Fails only once the subscriber is gone, which is at process exit.
        let _ = self.0.reload(filter(level));
    }
}

/// Installs the log. Called once, before anything logs.
pub fn init(log: &Log) -> LevelHandle {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = match log.format {
        LogFormat::Text => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(color).with_target(false).boxed()
        }
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    // A second call (only a test would) keeps the first log.
    let _ = tracing_subscriber::registry().with(level).with(layer).try_init();
    LevelHandle(handle)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
