//! From configuration to what the workers read. Pure: [`compile`] takes the configuration and the snapshot it
//! replaces, and returns a whole new one; storing it is one pointer swap.
//!
//! Counters and eligibility go over by name: a service's by its name, a backend's by service, name and address. A
//! backend that moved to another address is another backend, of which nothing is known.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::{BackendAddr, Name, Service};

use crate::backend::Backend;
use crate::clients::Admission;
use crate::clock::Clock;
use crate::service::{ServiceEntry, ServiceState, Settings};
use crate::socket::KeepAlive;
use crate::table::{Member, Roster};
use crate::tls::ServiceTls;

/// Everything a worker needs to know to serve an accepted connection.
#[derive(Debug)]
pub struct Snapshot {
    workers: usize,
    clock: Clock,
    /// What random choices begin with.
    seed: u64,
    /// In configuration order.
    pub(crate) services: Vec<Arc<ServiceEntry>>,
    listeners: HashMap<SocketAddr, Arc<ServiceEntry>>,
    names: HashMap<Name, Arc<ServiceEntry>>,
}

impl Snapshot {
    /// No service, for a plane of so many workers. With the same `seed` the same backends are chosen.
    pub fn empty(workers: usize, seed: u64) -> Self {
        Self::at(workers, Clock::start(), seed)
    }

    /// The same, for a plane with this clock.
    pub(crate) fn at(workers: usize, clock: Clock, seed: u64) -> Self {
        let (services, listeners, names) = Default::default();
        Snapshot { workers, clock, seed, services, listeners, names }
    }

    /// The service that accepts on `address`.
    pub fn listener(&self, address: SocketAddr) -> Option<&Arc<ServiceEntry>> {
        self.listeners.get(&address)
    }

    pub fn service(&self, name: &Name) -> Option<&Arc<ServiceEntry>> {
        self.names.get(name)
    }
}

/// What each service's TLS was loaded to, by name.
pub(crate) type TlsByService = HashMap<Name, Arc<ServiceTls>>;

/// The snapshot for `services`, without TLS. Backends that `previous` did not have begin not eligible; [`config::Backend::disabled`]
/// is not looked at, it is one of the reasons for which the caller does not make a backend eligible.
pub fn compile(services: &[Service], previous: &Snapshot) -> Snapshot {
    compile_with(services, &TlsByService::new(), previous)
}

/// The same with TLS.
pub(crate) fn compile_with(services: &[Service], tls: &TlsByService, previous: &Snapshot) -> Snapshot {
    let mut next = Snapshot::at(previous.workers, previous.clock, previous.seed);
    for service in services {
        let entry = Arc::new(compile_service(service, tls, previous));
        next.listeners.extend(service.listen.iter().map(|address| (*address, entry.clone())));
        next.names.insert(service.name.clone(), entry.clone());
        next.services.push(entry);
    }
    next
}

fn compile_service(service: &Service, tls: &TlsByService, previous: &Snapshot) -> ServiceEntry {
    let old = previous.service(&service.name);
    let known: HashMap<(&Name, &BackendAddr), &Arc<Backend>> = old
        .iter()
        .flat_map(|entry| &entry.roster.members)
        .map(|m| ((&m.backend.id().backend, m.backend.address()), &m.backend))
        .collect();
    let member = |configured: &config::Backend| Member {
        backend: known.get(&(&configured.name, &configured.address)).map_or_else(
            || {
                Arc::new(Backend::new(
                    service.backend_id(configured),
                    configured.address.clone(),
                    previous.workers,
                ))
            },
            |backend| Arc::clone(backend),
        ),
        weight: configured.weight.as_u16(),
        backup: configured.backup,
        limit: configured.max_connections,
    };
    let members = service.backends.iter().map(member).collect();
    let state = || Arc::new(ServiceState::new(previous.workers, previous.clock, previous.seed));
    ServiceEntry {
        name: service.name.clone(),
        state: old.map_or_else(state, |entry| entry.state.clone()),
        settings: settings(service),
        tls: tls.get(&service.name).cloned().unwrap_or_default(),
        listen: service.listen.clone(),
        max_connections: service.max_connections,
        admission: Admission::new(service, old.map(|entry| &entry.admission), previous.clock),
        roster: Roster { members, balance: service.balance, slow_start: service.slow_start },
    }
}

fn settings(service: &Service) -> Settings {
    Settings {
        accept_proxy: service.accept_proxy.then(|| service.trusted_proxies.clone()),
        send_proxy: service.send_proxy,
        source: service.source_address,
        user_timeouts: [service.timeouts.client, service.timeouts.server].map(user_timeout),
        connect: service.timeouts.connect.into(),
        client: service.timeouts.client.into(),
        server: service.timeouts.server.into(),
        client_fin: service.timeouts.client_fin.into(),
        server_fin: service.timeouts.server_fin.into(),
        queue: (!service.timeouts.queue.is_zero()).then(|| service.timeouts.queue.into()),
        on_down: service.on_down,
        retries: service.retries,
        keepalive: if service.tcp_keepalive { KeepAlive::On } else { KeepAlive::Off },
        linger: service.linger,
    }
}

/// The kernel gives up a little after the event loop does: what it is for is what is left when a socket was closed.
fn user_timeout(timeout: Duration) -> u32 {
    u32::try_from((timeout + Duration::from_secs(1)).as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::choice::{Ask, Miss};
    use crate::counters::WorkerId;
    use crate::{Eligible, Standing};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn service(service: &str, port: u16, backends: &[(&str, u16)]) -> Service {
        let mut text = format!("[[service]]\nname = \"{service}\"\nlisten = [\"127.0.0.1:{port}\"]\n");
        for (backend, port) in backends {
            let backend = format!("name = \"{backend}\"\naddress = \"192.0.2.1:{port}\"\n");
            text.push_str(&format!("[[service.backend]]\n{backend}"));
        }
        config::parse(&text, "test").unwrap().config.services.remove(0)
    }

    fn member(snapshot: &Snapshot, service: &str, index: usize) -> Arc<Backend> {
        snapshot.service(&name(service)).unwrap().roster.members[index].backend.clone()
    }

    #[test]
    fn a_backend_is_the_same_while_service_name_and_address_are() {
        let first = compile(&[service("web", 1, &[("a", 10), ("b", 11)])], &Snapshot::empty(2, 0));
        let next = compile(&[service("web", 2, &[("b", 11), ("a", 99), ("c", 10)])], &first);
        assert!(Arc::ptr_eq(&member(&next, "web", 0), &member(&first, "web", 1)));
        assert!(!Arc::ptr_eq(&member(&next, "web", 1), &member(&first, "web", 0)), "another address");
        assert!(!Arc::ptr_eq(&member(&next, "web", 2), &member(&first, "web", 0)), "another name");
        let other = compile(&[service("other", 1, &[("a", 10)])], &first);
        assert!(!Arc::ptr_eq(&member(&other, "other", 0), &member(&first, "web", 0)), "another service");
    }

    #[test]
    fn what_is_new_is_not_eligible_and_what_is_known_keeps_its_eligibility_and_its_turn() {
        let first = compile(&[service("web", 1, &[("a", 10), ("b", 11)])], &Snapshot::empty(1, 0));
        let entry = first.service(&name("web")).unwrap();
        let pick = |snapshot: &Snapshot| {
            let ask = Ask { client: Ipv4Addr::LOCALHOST.into(), tried: &[], now: Duration::ZERO };
            snapshot.service(&name("web")).unwrap().pick(&ask, WorkerId(0))
        };
        assert_eq!(pick(&first).unwrap_err(), Miss::Nobody);
        entry.roster.members.iter().for_each(|m| {
            m.backend.set_standing(Standing::UP, Duration::ZERO);
        });
        entry.recompile();
        let order = |snapshot: &Snapshot| pick(snapshot).unwrap().backend().id().backend.to_string();
        let before = order(&first);
        let next = compile(&[service("web", 1, &[("a", 10), ("b", 11), ("c", 12)])], &first);
        assert_eq!(member(&next, "web", 2).eligible(), Eligible::No);
        next.service(&name("web")).unwrap().recompile();
        assert_ne!(order(&next), before, "the turn goes on");
        assert_eq!(order(&next), before);
    }

    #[test]
    fn every_address_leads_to_its_service() {
        let services = [service("web", 1, &[("a", 10)]), service("api", 2, &[("a", 10)])];
        let snapshot = compile(&services, &Snapshot::empty(1, 0));
        for service in &services {
            assert_eq!(snapshot.listener(service.listen[0]).unwrap().name, service.name);
        }
        assert!(snapshot.listener(([127, 0, 0, 1], 3).into()).is_none());
    }
}
