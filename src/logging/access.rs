//! The access log: one record per connection, at its end, as HAProxy's `option tcplog` writes it or as JSON.
//!
//! The data plane's threads only queue what is known; it is put into words by the thread that writes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use config::AccessLog;
use lb_core::AccessRecord;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::queue::{LastWords, Queue};
use super::sink::{Severity, Sink};

/// The data plane's end. Clones are the same log.
#[derive(Clone)]
pub struct AccessLogger {
    records: Queue<AccessRecord>,
    form: Arc<AtomicU8>,
}

impl AccessLogger {
    pub(super) fn start(mut sink: Sink, access: AccessLog) -> (Self, LastWords) {
        let form = Arc::new(AtomicU8::new(access as u8));
        let current = Arc::clone(&form);
        let (records, last_words) = Queue::start("access log", move |record: AccessRecord| {
            let line =
                if current.load(Relaxed) == AccessLog::Json as u8 { json(&record) } else { tcplog(&record) };
            sink.write(Severity::Info, line.as_bytes());
        });
        (AccessLogger { records, form }, last_words)
    }

    /// How records look from now on.
    pub fn set(&self, access: AccessLog) {
        self.form.store(access as u8, Relaxed);
    }

    /// Never blocks; without room the record is dropped and counted.
    pub fn push(&self, record: AccessRecord) {
        self.records.push(record);
    }
}

/// The fields of `option tcplog` in their order (HAProxy's configuration manual, section 8.2.2); frontend and backend are
/// both the service.
fn tcplog(record: &AccessRecord) -> String {
    let date = OffsetDateTime::from(record.accepted_at).format(format_description!(
        "[day]/[month repr:short]/[year]:[hour]:[minute]:[second].[subsecond digits:3]"
    ));
    let milliseconds =
        |time: Option<Duration>| time.map_or_else(|| "-1".into(), |time| time.as_millis().to_string());
    let server = record.backend.as_ref().map_or("<NOSRV>", |name| name.as_str());
    let [cause, state] = record.termination();
    let retries = record.tried.len().saturating_sub(1);
    let mut line = format!("{} [{}] ", record.client, date.unwrap_or_default());
    let _ = write!(
        line,
        "{service} {service}/{server} {}/{}/{} {} {cause}{state} {}/{}/{}/{}/{}{retries} 0/0",
        milliseconds(record.queue),
        milliseconds(record.connect),
        record.total.as_millis(),
        record.bytes_out,
        record.concurrent.total,
        record.concurrent.service,
        record.concurrent.service,
        record.concurrent.backend,
        // Another server than the first was tried.
        if retries > 0 { "+" } else { "" },
        service = record.service,
    );
    line
}

/// The record as JSON. Field names are an API.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    service: &'a str,
    listener: String,
    client: String,
    backend: Option<&'a str>,
    tried: Vec<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    queue_ms: Option<f64>,
    connect_ms: Option<f64>,
    total_ms: f64,
    reason: &'a str,
}

fn json(record: &AccessRecord) -> String {
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let record = Json {
        time: OffsetDateTime::from(record.accepted_at).format(&Rfc3339).unwrap_or_default(),
        service: record.service.as_str(),
        listener: record.listener.to_string(),
        client: record.client.to_string(),
        backend: record.backend.as_ref().map(|name| name.as_str()),
        tried: record.tried.iter().map(|name| name.as_str()).collect(),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        queue_ms: record.queue.map(milliseconds),
        connect_ms: record.connect.map(milliseconds),
        total_ms: milliseconds(record.total),
        reason: record.reason.as_str(),
    };
    serde_json::to_string(&record).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use config::Name;
    use lb_core::{CloseReason, Concurrent, Reached};

    use super::*;

    fn record() -> AccessRecord {
        let name = |text| Name::new(text).unwrap();
        AccessRecord {
            accepted_at: std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567),
            service: name("api"),
            listener: ([192, 0, 2, 1], 8082).into(),
            client: ([198, 51, 100, 7], 4711).into(),
            backend: Some(name("b")),
            tried: vec![name("a"), name("b")],
            bytes_in: 11,
            bytes_out: 212,
            queue: Some(Duration::ZERO),
            connect: Some(Duration::from_micros(2_500)),
            total: Duration::from_millis(5_007),
            reason: CloseReason::ClientReset,
            reached: Reached::Relaying,
            concurrent: Concurrent { total: 3, service: 2, backend: 1 },
        }
    }

    #[test]
    fn a_record_has_haproxy_s_fields_in_haproxy_s_order() {
        let expected =
            "198.51.100.7:4711 [01/Jan/1970:00:20:34.567] api api/b 0/2/5007 212 CD 3/2/2/1/+1 0/0";
        assert_eq!(tcplog(&record()), expected);
        let refused = AccessRecord { backend: None, tried: vec![], queue: None, connect: None, ..record() };
        assert!(tcplog(&refused).contains(" api/<NOSRV> -1/-1/5007 "), "{}", tcplog(&refused));
    }

    #[test]
    fn a_record_as_json_has_the_documented_fields() {
        let value: serde_json::Value = serde_json::from_str(&json(&record())).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:20:34.567Z", "service": "api", "listener": "192.0.2.1:8082",
            "client": "198.51.100.7:4711", "backend": "b", "tried": ["a", "b"], "bytes_in": 11, "bytes_out": 212,
            "queue_ms": 0.0, "connect_ms": 2.5, "total_ms": 5007.0, "reason": "client_reset",
        });
        assert_eq!(value, expected);
    }
}
