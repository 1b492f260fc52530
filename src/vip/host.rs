//! The hands of the life cycles: brings about on the host what the phase of each VIP asks for.
//!
//! Owns which services the data plane listens for and which addresses are ours to remove. What has to be waited for is
//! waited for in a task of its own; the answer goes to the steering task as a command.
#![allow(clippy::disallowed_methods, reason = "a driver: it waits for conditions on the host")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::Speaker;
use config::{Name, Service, Vip};
use lb_core::{Applied, DataPlane, PrepareError};
use tokio::sync::{Mutex, mpsc, watch};

use super::address::{Added, AddressError, Addresses};
use super::life_cycle::{Input, Phase};
use super::listening;
use crate::steer::Entered;
use crate::steer::task::Command;

/// No new connection for this long after a withdraw: the routers have moved the traffic.
const QUIET: Duration = Duration::from_secs(1);
/// The longest wait for that: clients on this very host may never move.
const QUIET_CAP: Duration = Duration::from_secs(10);
/// How often a condition on the host is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Bound on the wait for acknowledgements; the speaker tears down a session that takes longer.
const ACK_BOUND: Duration = Duration::from_secs(3);
/// Between attempts to put an address on the host.
const ADDRESS_RETRY: Duration = Duration::from_secs(5);

/// How often the addresses on the host are looked at.
const ADDRESS_WATCH: Duration = Duration::from_secs(1);

/// See the module's text. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    plane: Arc<DataPlane>,
    answers: mpsc::Sender<Command>,
    state: Mutex<State>,
    /// While true, addresses stay: the BGP sessions are to be closed first.
    hold_addresses: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    netlink: Option<Addresses>,
    /// Addresses that we put on the host, and where.
    ours: BTreeMap<IpAddr, String>,
    /// As configured.
    services: Vec<Service>,
    /// What still listens on VIPs that are no longer configured.
    leaving: Vec<Service>,
    /// VIPs whose listeners are closed.
    closed: BTreeSet<IpAddr>,
}

impl State {
    fn listening(&self) -> Vec<Service> {
        listening::merged(&self.services, &self.leaving, &self.closed)
    }
}

impl Host {
    pub fn new(plane: Arc<DataPlane>, answers: mpsc::Sender<Command>) -> Self {
        let (hold_addresses, _) = watch::channel(false);
        Host(Arc::new(Inner { plane, answers, state: Mutex::default(), hold_addresses }))
    }

    /// Opens what `services` need beyond what is open, puts the addresses of `vips` on the host, and only then lets the
    /// data plane accept. On an error nothing has changed. Listeners on VIPs that are gone stay until their life cycle
    /// closes them.
    pub async fn install(&self, services: &[Service], vips: &[Vip]) -> Result<Applied, InstallError> {
        let mut state = self.0.state.lock().await;
        let current = state.listening();
        let leaving = listening::on_other_addresses(&current, services, vips);
        let wanted = listening::merged(services, &leaving, &state.closed);
        let prepared = self.0.plane.prepare(&wanted)?;
        let mut added: Vec<IpAddr> = Vec::new();
        for vip in vips {
            match state.add(vip).await {
                Ok(true) => added.push(vip.address),
                Ok(false) => {}
                Err(error) => {
                    for address in added {
                        state.remove(address).await;
                    }
                    return Err(error.into());
                }
            }
        }
        state.services = services.to_vec();
        state.leaving = leaving;
        Ok(self.0.plane.commit(prepared))
    }

    /// Starts on what the phase that a VIP has entered asks for. What came of it reaches the steering task as inputs to
    /// the life cycle. `version` is that of the routes as of this phase.
    pub fn work_on(&self, entered: Entered, speaker: Option<Speaker>, version: u64) {
        let host = self.clone();
        tokio::spawn(async move {
            let Entered { vip, phase, deadline } = entered;
            let address = vip.address;
            match phase {
                Phase::Init => {
                    host.add_address(&vip).await;
                    host.answer(address, Input::AddressReady, "its address is on the host").await;
                }
                Phase::AddressUp => {
                    host.open_listeners(address).await;
                    host.answer(address, Input::ListenersReady, "its listeners accept").await;
                }
                Phase::Withdrawn => {
                    await_withdraw(speaker, version).await;
                    host.answer(address, Input::WithdrawAcked, "the peers have the withdraw").await;
                    host.watch_traffic(address, deadline).await;
                    host.answer(address, Input::TrafficEnded, "new connections have ended").await;
                }
                Phase::Quiet => {
                    host.stop_accepting(address, deadline).await;
                    host.answer(address, Input::ConnectionsClosed, "no connection is left").await;
                }
                Phase::Closed => {
                    host.remove_address(address).await;
                    host.answer(address, Input::AddressGone, "its address is off the host").await;
                }
                // Health moves these.
                Phase::Listening | Phase::Announced | Phase::Degraded | Phase::LastResort => {}
                Phase::AddressDown => {}
            }
        });
    }

    async fn answer(&self, address: IpAddr, input: Input, why: &'static str) {
        // The steering task is gone only when the process ends.
        let _ = self.0.answers.send(Command::Vip { address, input, why }).await;
    }

    /// Looks after the addresses it has put on the host: one that somebody else took off withdraws its VIP, which then
    /// comes up again from the start.
    pub async fn watch_addresses(self) {
        let mut poll = tokio::time::interval(ADDRESS_WATCH);
        loop {
            poll.tick().await;
            let lost = self.0.state.lock().await.forget_lost().await;
            for address in lost {
                tracing::error!(vip = %address, "somebody took the address off the host: withdrawing, then putting it back");
                self.answer(address, Input::AddressGone, "its address was taken off the host").await;
            }
        }
    }

    /// While held, addresses stay on the host though their life cycle is over.
    pub fn hold_addresses(&self, hold: bool) {
        self.0.hold_addresses.send_replace(hold);
    }

    /// Takes every address of ours off the host, whatever the life cycles say.
    pub async fn remove_all(&self) {
        let mut state = self.0.state.lock().await;
        let ours: Vec<IpAddr> = state.ours.keys().copied().collect();
        for address in ours {
            state.remove(address).await;
        }
    }

    async fn add_address(&self, vip: &Vip) {
        let mut retry = tokio::time::interval(ADDRESS_RETRY);
        loop {
            retry.tick().await;
            match self.0.state.lock().await.add(vip).await {
                Ok(_) => return,
                Err(error) => tracing::error!(vip = %vip.address, "{error}; trying again"),
            }
        }
    }

    async fn open_listeners(&self, vip: IpAddr) {
        let mut retry = tokio::time::interval(ADDRESS_RETRY);
        loop {
            retry.tick().await;
            let mut state = self.0.state.lock().await;
            if !state.closed.remove(&vip) {
                return; // install has opened them
            }
            match self.0.plane.prepare(&state.listening()) {
                Ok(prepared) => {
                    self.0.plane.commit(prepared);
                    return;
                }
                Err(error) => {
                    state.closed.insert(vip);
                    tracing::error!(%vip, "{error}; trying again");
                }
            }
        }
    }

    async fn watch_traffic(&self, vip: IpAddr, deadline: Instant) {
        let mut poll = tokio::time::interval(POLL);
        let started = Instant::now();
        // Half of the time, at least, is for the connections that are there.
        let cap = started + QUIET_CAP.min(deadline.saturating_duration_since(started) / 2);
        let services = self.0.state.lock().await.listening();
        let accepted_on_vip = || {
            let on_vip = |name: &Name| services.iter().any(|s| s.name == *name && s.vips.contains(&vip));
            self.0.plane.stats().services.iter().filter(|s| on_vip(&s.name)).map(|s| s.accepted).sum::<u64>()
        };
        let mut last = (accepted_on_vip(), started);
        loop {
            let now = poll.tick().await.into_std();
            let accepted = accepted_on_vip();
            if accepted != last.0 {
                last = (accepted, now);
            }
            if now >= last.1 + QUIET || now >= cap {
                return;
            }
        }
    }

    /// Closes the listeners on `vip`, then waits for the connections of the services that had no other address.
    async fn stop_accepting(&self, vip: IpAddr, deadline: Instant) {
        let ending: Vec<Name> = {
            let mut state = self.0.state.lock().await;
            let only_here = |s: &&Service| s.listen.iter().all(|l| l.ip() == vip);
            let ending = state.listening().iter().filter(only_here).map(|s| s.name.clone()).collect();
            state.closed.insert(vip);
            match self.0.plane.prepare(&state.listening()) {
                Ok(prepared) => drop(self.0.plane.commit(prepared)),
                Err(error) => tracing::error!(%vip, "cannot close its listeners: {error}"),
            }
            ending
        };
        let active = || {
            let stats = self.0.plane.stats();
            stats.services.iter().filter(|s| ending.contains(&s.name)).map(|s| s.active).sum::<u64>()
        };
        let mut poll = tokio::time::interval(POLL);
        while active() > 0 {
            if poll.tick().await.into_std() >= deadline {
                tracing::warn!(%vip, connections = active(), "the time to drain is over: closing what is left");
                self.0.plane.kill_connections_of(&ending);
                break;
            }
        }
        self.0.state.lock().await.leaving.retain(|s| s.listen.iter().any(|l| l.ip() != vip));
    }

    async fn remove_address(&self, vip: IpAddr) {
        // Fails only if the sender is gone, and it is ours.
        let _ = self.0.hold_addresses.subscribe().wait_for(|hold| !hold).await;
        self.0.state.lock().await.remove(vip).await;
    }
}

impl State {
    /// True: it was not there and is now.
    async fn add(&mut self, vip: &Vip) -> Result<bool, AddressError> {
        let Some(interface) = &vip.interface else { return Ok(false) };
        let before = self.ours.get(&vip.address).cloned();
        if before.as_ref() == Some(interface) {
            return Ok(false);
        }
        if self.netlink.is_none() {
            self.netlink = Some(Addresses::connect().await?);
        }
        let Some(netlink) = &self.netlink else { return Ok(false) };
        match netlink.add(vip.address, interface).await? {
            Added::New => {
                self.ours.insert(vip.address, interface.clone());
                if let Some(elsewhere) = before {
                    netlink.remove(vip.address, &elsewhere).await?; // moved to another interface
                }
                Ok(true)
            }
            Added::AlreadyThere => Ok(false),
        }
    }

    /// Addresses of ours that are on the host no longer, and from now on not ours.
    async fn forget_lost(&mut self) -> Vec<IpAddr> {
        let Some(netlink) = &self.netlink else { return Vec::new() };
        let mut lost = Vec::new();
        for address in self.ours.keys() {
            // An error says nothing about the address.
            if let Ok(false) = netlink.present(*address).await {
                lost.push(*address);
            }
        }
        self.ours.retain(|address, _| !lost.contains(address));
        lost
    }

    async fn remove(&mut self, address: IpAddr) {
        let (Some(interface), Some(netlink)) = (self.ours.remove(&address), &self.netlink) else { return };
        if let Err(error) = netlink.remove(address, &interface).await {
            tracing::error!(vip = %address, "{error}");
        }
    }
}

/// Resolves once no peer can still send us traffic for what was withdrawn, or the bound is over.
async fn await_withdraw(speaker: Option<Speaker>, version: u64) {
    if let Some(speaker) = speaker {
        let settled = speaker.settled(version, Instant::now() + ACK_BOUND).await;
        for peer in settled.late {
            tracing::warn!(%peer, "has not acknowledged the withdraw");
        }
    }
}

/// Why a configuration could not be put to work. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Listen(#[from] PrepareError),
    #[error(transparent)]
    Address(#[from] AddressError),
}
