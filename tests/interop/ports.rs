//! `source_address` and the ports of the host: one port serves towards every backend at once (`IP_BIND_ADDRESS_NO_PORT`),
//! and is good again as soon as its connection is over.
//!
//! In a namespace whose kernel has a thousand ports to give, so that a port that is kept too long is missed at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::common::SOON;
use crate::common::configuration::UNCHECKED;
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http;
use crate::netns::Namespace;

/// `net.ipv4.ip_local_port_range`.
const PORTS: (u16, usize) = (30_000, 1_000);
const SOURCE: &str = "127.0.0.9";
const BACKENDS: u16 = 3;
/// More than there are ports, and less than there are towards all backends.
const HELD: usize = 2_000;
const ANY: [u8; 1] = [b'a'];
const LAST: [u8; 1] = [b'z'];
/// At 100,000 a minute, these are a quarter of a minute's.
const CHURNED: usize = 25_000;

/// A backend that sends back each byte and ends after [`LAST`]: who ends first keeps a port for a minute (TIME_WAIT), and
/// that is not to be the load balancer.
fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).expect("an address of the namespace");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut byte, stack) = ([0], 64 * 1024);
            let serve = move || {
                while byte != LAST && stream.read_exact(&mut byte).is_ok() {
                    let _ = stream.write_all(&byte);
                }
            };
            thread::Builder::new().stack_size(stack).spawn(serve).expect("a thread");
        }
    });
}

/// Connects and has a byte sent back.
fn ask(front: SocketAddr, byte: [u8; 1]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(front)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&byte)?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

#[test]
fn a_source_address_needs_no_more_ports_than_one_backend_has_connections() {
    if !rustix::process::geteuid().is_root() {
        drop(writeln!(std::io::stderr(), "test of ports skipped: network namespaces need root"));
        return;
    }
    let host = Namespace::new("ports");
    host.sysctl(&format!("net.ipv4.ip_local_port_range={} {}", PORTS.0, usize::from(PORTS.0) + PORTS.1 - 1));
    // Clients have ports of the same thousand: each front is a further thousand.
    let address = |ip: &str, port: u16| format!("{ip}:{port}").parse::<SocketAddr>().expect("an address");
    let fronts: Vec<_> = (0..4).map(|n| address("127.0.0.1", 8_000 + n)).collect();
    let backends: Vec<_> = (0..BACKENDS).map(|n| address("127.0.0.1", 9_000 + n)).collect();
    let listen = fronts.iter().map(|front| format!("\"{front}\"")).collect::<Vec<_>>().join(", ");
    let servers: String =
        backends.iter().map(|backend| format!("[[service.backend]]\naddress = \"{backend}\"\n")).collect();
    let config = format!(
        "[[service]]\nname = \"web\"\nlisten = [{listen}]\nsource_address = \"{SOURCE}\"\n{UNCHECKED}{servers}"
    );
    let admin = address("127.0.0.1", 7_000);
    let daemon = Daemon::spawn(admin, "", &config, &host.prefix());
    host.within(|| {
        backends.iter().for_each(|backend| serve(*backend));
        eventually("it is alive", SOON, || {
            http::get(admin, "/healthz").is_ok_and(|answer| answer.status == 200)
        });
        let front = |n: usize| fronts[n % fronts.len()];
        let held: Vec<_> = (0..HELD)
            .map(|n| ask(front(n), ANY).unwrap_or_else(|e| panic!("{n} are held already: {e}")))
            .collect();
        for n in 0..CHURNED {
            let ended = ask(front(n), LAST).and_then(|mut stream| stream.read(&mut [0]));
            assert_eq!(ended.map_err(|e| e.kind()), Ok(0), "the {n}th beside {HELD}");
        }
        drop(held);
    });
    drop(daemon);
}
