//! The hands of the life cycles: brings about on the host what the phase of each VIP asks for.
//!
//! Owns which services the data plane listens for and which addresses are ours to remove. What has to be waited for is
//! waited for in a task of its own; the answer goes to the steering task as a command. An answer that comes too late
//! moves no life cycle.
#![allow(clippy::disallowed_methods, reason = "a driver: it waits for conditions on the host")]

mod door;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bgp_speaker::{PeerState, Speaker};
use config::{Name, Service, Vip};
use lb_core::{Applied, DataPlane, PrepareError, Prepared};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};

use super::address::{AddressError, is_local};
use super::life_cycle::{Input, Phase};
use super::listening;
use super::placement::{Placed, Placement};
use crate::steer::Entered;
use crate::steer::task::Command;

/// What fellow hosts get, once they have been told that this one comes, for their short connections to end.
const FELLOWS_GRACE: Duration = Duration::from_millis(200);
/// How long it is waited for that they have been told.
const FELLOWS_PATIENCE: Duration = Duration::from_millis(300);
/// No new connection for so long, once the peers have the drained route: the routers have moved the traffic.
const SHIFTED: Duration = Duration::from_millis(500);
/// The same after a withdraw, beyond which whoever comes is refused.
const QUIET: Duration = Duration::from_secs(1);
/// The longest wait for either: clients on this very host may never move, nor those of the last host that announces.
const QUIET_CAP: Duration = Duration::from_secs(10);
/// The longest that is watched what becomes of the traffic of a VIP that its health has withdrawn.
const WITHDRAWN_PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition on the host is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Between attempts to bring about what does not work yet, and between looks at the addresses on the host.
const RETRY: Duration = Duration::from_secs(1);

/// See the module's text. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    plane: Arc<DataPlane>,
    answers: mpsc::Sender<Command>,
    state: Arc<Mutex<State>>,
    /// The newest turn of each VIP's life cycle.
    turns: std::sync::Mutex<BTreeMap<IpAddr, u64>>,
    /// How often newcomers to each VIP have been made to wait.
    doors: std::sync::Mutex<BTreeMap<IpAddr, u64>>,
    /// While true, addresses stay: the BGP sessions are to be closed first.
    hold_addresses: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    placement: Placement,
    /// As configured.
    vips: BTreeMap<IpAddr, Vip>,
    services: Vec<Service>,
    /// What still listens on VIPs that are no longer configured.
    leaving: Vec<Service>,
    /// VIPs whose listeners are closed.
    closed: BTreeSet<IpAddr>,
    /// VIPs whose address was found on the host and not missed since.
    present: BTreeSet<IpAddr>,
    /// VIPs that have been drained: their address is off the host on purpose.
    down: BTreeSet<IpAddr>,
    /// The process ends: no address is put on the host any more.
    stopping: bool,
}

impl State {
    /// A VIP that has been drained and is configured no more is as if it had never been.
    fn forget_gone(&mut self) {
        let vips = &self.vips;
        let gone: Vec<IpAddr> = self.down.iter().copied().filter(|vip| !vips.contains_key(vip)).collect();
        for vip in gone {
            self.down.remove(&vip);
            self.closed.remove(&vip);
        }
    }

    fn listening(&self) -> Vec<Service> {
        listening::merged(&self.services, &self.leaving, &self.closed)
    }
}

/// A configuration that can be put to work: sockets are open, addresses on the host, nothing accepts yet. Holds the
/// host until it is committed or rolled back.
#[must_use = "commit it or roll it back"]
pub struct Installation {
    plane: Arc<DataPlane>,
    state: OwnedMutexGuard<State>,
    prepared: Prepared,
    placed: Vec<Placed>,
    services: Vec<Service>,
    vips: BTreeMap<IpAddr, Vip>,
    leaving: Vec<Service>,
}

impl Installation {
    /// Lets the data plane accept. Listeners on VIPs that are gone stay until their life cycle closes them.
    pub async fn commit(mut self) -> Applied {
        self.state.placement.keep(self.placed).await;
        self.state.services = self.services;
        self.state.vips = self.vips;
        self.state.forget_gone();
        self.state.leaving = self.leaving;
        tokio::task::block_in_place(|| self.plane.commit(self.prepared))
    }

    /// As if nothing had been prepared.
    pub async fn roll_back(mut self) {
        self.state.placement.take_back(self.placed).await;
    }
}

impl Host {
    pub fn new(plane: Arc<DataPlane>, answers: mpsc::Sender<Command>) -> Self {
        let (hold_addresses, _) = watch::channel(false);
        Host(Arc::new(Inner {
            plane,
            answers,
            state: Arc::default(),
            turns: Default::default(),
            doors: Default::default(),
            hold_addresses,
        }))
    }

    /// Opens what `services` need beyond what is open and puts the addresses of `vips` on the host: all that can fail.
    /// On an error nothing has changed.
    pub async fn prepare(&self, services: &[Service], vips: &[Vip]) -> Result<Installation, InstallError> {
        let mut state = Arc::clone(&self.0.state).lock_owned().await;
        let leaving = listening::on_other_addresses(&state.listening(), services, vips);
        let prepared = self.0.plane.prepare(&listening::merged(services, &leaving, &state.closed))?;
        let mut placed = Vec::new();
        for vip in vips.iter().filter(|vip| !state.down.contains(&vip.address)).collect::<Vec<_>>() {
            match state.placement.place(vip).await {
                Ok(new) => placed.extend(new),
                Err(error) => {
                    state.placement.take_back(placed).await;
                    return Err(error.into());
                }
            }
        }
        Ok(Installation {
            plane: Arc::clone(&self.0.plane),
            state,
            prepared,
            placed,
            services: services.to_vec(),
            vips: vips.iter().map(|vip| (vip.address, vip.clone())).collect(),
            leaving,
        })
    }

    /// Starts on what the phase that a VIP has entered asks for. What came of it reaches the steering task as inputs to
    /// the life cycle. `version` is that of the routes as of this phase.
    pub fn work_on(&self, entered: Entered, speaker: Option<Speaker>, version: u64) {
        let host = self.clone();
        self.turns().insert(entered.address, entered.turn);
        tokio::spawn(async move {
            let Entered { address, phase, left, deadline, .. } = entered;
            let is_on_the_way = matches!(phase, Phase::Holding | Phase::Draining | Phase::Withdrawn);
            if matches!(left, Phase::Holding | Phase::Draining | Phase::Withdrawn) && !is_on_the_way {
                tokio::task::block_in_place(|| host.0.plane.admit_newcomers_on(address));
            }
            match phase {
                Phase::Init => host.wait_for_address(entered).await,
                Phase::AddressUp => {
                    if host.open_listeners(entered).await {
                        host.answer(entered, Input::ListenersReady, "its listeners accept").await;
                    }
                }
                Phase::Arriving => {
                    await_peers(speaker, version, now() + FELLOWS_PATIENCE).await;
                    tokio::time::sleep(FELLOWS_GRACE).await;
                    host.answer(entered, Input::FellowsTold, "the fellow hosts have been told").await;
                }
                Phase::Holding => {
                    let held = host.hold_door(address, deadline).await;
                    host.answer(entered, Input::DoorHeld, &held).await;
                }
                Phase::Draining => {
                    host.await_peers_of_drain(entered, speaker, version).await;
                    host.open_door(address, deadline).await;
                    let (is_quiet, ended) = host.watch_traffic(address, SHIFTED, deadline).await;
                    if !is_quiet && host.is_turn(entered) {
                        host.hold_door(address, deadline).await; // the withdraw will move them
                    }
                    host.answer(entered, Input::TrafficShifted, &ended).await;
                }
                Phase::Withdrawn => {
                    host.await_peers_of_drain(entered, speaker, version).await;
                    host.answer(entered, Input::WithdrawAcked, "the peers have the withdraw").await;
                    host.open_door(address, deadline).await;
                    let (_, ended) = host.watch_traffic(address, QUIET, deadline).await;
                    host.answer(entered, Input::TrafficEnded, &ended).await;
                }
                Phase::Quiet => {
                    if host.stop_accepting(entered).await {
                        host.answer(entered, Input::ConnectionsClosed, "no connection is left").await;
                    }
                }
                Phase::Closed => {
                    host.remove_address(address).await;
                    host.answer(entered, Input::AddressGone, "its address is off the host").await;
                }
                // Withdrawn for its health: what became of the traffic ends the chain of events.
                Phase::Listening
                    if matches!(left, Phase::Announced | Phase::Degraded | Phase::LastResort) =>
                {
                    let patience = now() + WITHDRAWN_PATIENCE;
                    await_peers(speaker, version, patience).await;
                    let (_, ended) = host.watch_traffic(address, QUIET, patience).await;
                    host.answer(entered, Input::TrafficEnded, &ended).await;
                }
                // Health moves these.
                Phase::Listening | Phase::Announced | Phase::Degraded | Phase::LastResort => {}
                Phase::AddressDown => {}
            }
        });
    }

    async fn answer(&self, to: Entered, input: Input, why: &str) {
        let Entered { address, turn, .. } = to;
        self.tell(Command::Vip { address, turn: Some(turn), input, why: why.to_owned() }).await;
    }

    async fn tell(&self, command: Command) {
        // The steering task is gone only when the process ends.
        let _ = self.0.answers.send(command).await;
    }

    /// Looks after the addresses of the VIPs, whoever put them there: one that is gone withdraws its VIP, which then
    /// comes up again from the start.
    pub async fn watch_addresses(self) {
        let mut poll = tokio::time::interval(RETRY);
        loop {
            poll.tick().await;
            let mut state = self.0.state.lock().await;
            let lost: Vec<IpAddr> = state.present.iter().copied().filter(|vip| !is_local(*vip)).collect();
            for address in lost {
                state.present.remove(&address);
                state.placement.forget(address);
                let why = "somebody took its address off the host".to_owned();
                self.tell(Command::Vip { address, turn: None, input: Input::AddressGone, why }).await;
            }
        }
    }

    /// Addresses stay on the host until [`Host::release_addresses`], even where their life cycle is over.
    pub fn hold_addresses(&self) {
        self.0.hold_addresses.send_replace(true);
    }

    /// From now on no address is put on the host.
    pub async fn begin_stop(&self) {
        self.0.state.lock().await.stopping = true;
    }

    /// Closes every listener for good, those without a VIP too.
    pub async fn close_all_listeners(&self) {
        let mut state = self.0.state.lock().await;
        state.services.clear();
        state.leaving.clear();
        tokio::task::block_in_place(|| self.0.plane.close_listeners());
    }

    /// Life cycles that are over may take their addresses off the host.
    pub fn release_addresses(&self) {
        self.0.hold_addresses.send_replace(false);
    }

    /// Takes every address of ours off the host, whatever the life cycles say.
    pub async fn remove_all(&self) {
        self.0.state.lock().await.placement.remove_all().await;
    }

    /// Waits for the peers as [`await_peers`] does; who has not acknowledged is told.
    async fn await_peers_of_drain(&self, entered: Entered, speaker: Option<Speaker>, version: u64) {
        let Entered { address, turn, deadline, .. } = entered;
        let peers = await_peers(speaker, version, deadline).await;
        if !peers.is_empty() {
            self.tell(Command::Unacknowledged { address, turn, peers }).await;
        }
    }

    /// Says when the address is on the host, unless the VIP is no longer configured, or wanted elsewhere. What is said of
    /// addresses is said under the lock, here and by [`Host::watch_addresses`]: were "gone" to overtake "ready", nobody
    /// would miss the address any more.
    async fn wait_for_address(&self, entered: Entered) {
        let address = entered.address;
        let mut retry = tokio::time::interval(RETRY);
        let mut said = String::new();
        loop {
            retry.tick().await;
            let problem = {
                let mut state = self.0.state.lock().await;
                let is_wanted = !state.stopping && self.is_turn(entered);
                let Some(vip) = state.vips.get(&address).filter(|_| is_wanted).cloned() else {
                    return;
                };
                state.down.remove(&address);
                let problem = match state.placement.place(&vip).await {
                    Ok(placed) => {
                        state.placement.keep(placed).await;
                        format!(
                            "{address} is on no interface; `interface = \"\"` leaves putting it there to you"
                        )
                    }
                    Err(error) => error.to_string(),
                };
                if is_local(address) {
                    state.present.insert(address);
                    return self.answer(entered, Input::AddressReady, "its address is on the host").await;
                }
                state.placement.forget(address);
                problem
            };
            if problem != said {
                said.clone_from(&problem);
                tracing::error!(vip = %address, "cannot serve the VIP: {problem}; trying again every second");
                self.tell(Command::VipWaits { address, why: problem }).await;
            }
        }
    }

    fn turns(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u64>> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the VIP is still in the phase that this is about.
    fn is_turn(&self, entered: Entered) -> bool {
        self.turns().get(&entered.address) == Some(&entered.turn)
    }

    /// False: they are no longer to be opened.
    async fn open_listeners(&self, entered: Entered) -> bool {
        let vip = entered.address;
        let mut retry = tokio::time::interval(RETRY);
        loop {
            retry.tick().await;
            let mut state = self.0.state.lock().await;
            if !self.is_turn(entered) {
                return false;
            }
            if !state.closed.remove(&vip) {
                return true; // the installation has opened them
            }
            match self.0.plane.prepare(&state.listening()) {
                Ok(prepared) => {
                    tokio::task::block_in_place(|| self.0.plane.commit(prepared));
                    return true;
                }
                Err(error) => {
                    state.closed.insert(vip);
                    tracing::error!(%vip, "{error}; trying again");
                }
            }
        }
    }

    /// Waits until no new connection has arrived for so long: whether that came to be, and in words what it saw.
    async fn watch_traffic(&self, vip: IpAddr, quiet: Duration, deadline: Instant) -> (bool, String) {
        let mut poll = tokio::time::interval(POLL);
        let started = now();
        // Half of the time, at least, is for the connections that are there.
        let cap = started + QUIET_CAP.min(deadline.saturating_duration_since(started) / 2);
        let mut last = (self.0.plane.accepted_on(vip), started);
        loop {
            let now = poll.tick().await.into_std();
            let accepted = self.0.plane.accepted_on(vip);
            if accepted != last.0 {
                last = (accepted, now);
            }
            let open = self.0.plane.active_on(vip);
            if now >= last.1 + quiet {
                return (true, format!("no new connection for {quiet:?}, {open} still open"));
            }
            if now >= cap {
                return (
                    false,
                    format!("new connections still arrive after {:.1?}, {open} open", now - started),
                );
            }
        }
    }

    /// Closes the listeners on `vip`, then waits for its connections to end. False: it was opened again meanwhile.
    async fn stop_accepting(&self, entered: Entered) -> bool {
        let Entered { address: vip, deadline, .. } = entered;
        {
            let mut state = self.0.state.lock().await;
            if !self.is_turn(entered) {
                return false;
            }
            state.closed.insert(vip);
            match self.0.plane.prepare(&state.listening()) {
                Ok(prepared) => drop(tokio::task::block_in_place(|| self.0.plane.commit(prepared))),
                Err(error) => tracing::error!(%vip, "cannot close its listeners: {error}"),
            }
        }
        let mut poll = tokio::time::interval(POLL);
        loop {
            let now = poll.tick().await.into_std();
            let mut state = self.0.state.lock().await;
            if !state.closed.contains(&vip) {
                return false;
            }
            let left = self.0.plane.active_on(vip);
            if left > 0 && now >= deadline {
                tracing::warn!(%vip, connections = left, "the time to drain is over: closing what is left");
                tokio::task::block_in_place(|| self.0.plane.kill_connections_on(vip));
            } else if left > 0 {
                continue;
            }
            state.leaving.retain(|s| s.listen.iter().any(|l| l.ip() != vip));
            return true;
        }
    }

    async fn remove_address(&self, vip: IpAddr) {
        // Fails only if the sender is gone, and it is ours.
        let _ = self.0.hold_addresses.subscribe().wait_for(|hold| !hold).await;
        let mut state = self.0.state.lock().await;
        state.present.remove(&vip);
        state.placement.remove(vip).await;
        state.down.insert(vip);
        state.forget_gone();
    }
}

fn now() -> Instant {
    Instant::now()
}

/// Resolves once every peer has the routes as of `version`, or the deadline is over. The speaker tears down a session
/// that does not acknowledge within its own bound, below the hold time: then the route is gone as well, as
/// soon as the peer notices. Who had a session and has not acknowledged.
async fn await_peers(speaker: Option<Speaker>, version: u64, deadline: Instant) -> Vec<Name> {
    let Some(speaker) = speaker else { return Vec::new() };
    let established = speaker.peers().into_iter().filter(|peer| peer.state == PeerState::Established);
    let before: BTreeSet<Name> = established.map(|peer| peer.name).collect();
    let settled = speaker.settled(version, deadline).await;
    let missing: Vec<Name> =
        settled.late.into_iter().chain(settled.down).filter(|peer| before.contains(peer)).collect();
    for peer in &missing {
        tracing::warn!(%peer, "has not acknowledged the change of the route");
    }
    missing
}

/// Why a configuration could not be put to work. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Listen(#[from] PrepareError),
    #[error(transparent)]
    Address(#[from] AddressError),
}
