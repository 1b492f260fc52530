//! What goes wrong, and what operators do meanwhile.

use std::time::Duration;

use bgp_speaker::simulation::Farewell;
use config::BackendId;

use super::checker::Server;
use super::world::{Happening, World};
use crate::steer::Duty;

/// The hold time is 9 s: after this a cut connection is known to be dead on both sides.
const HOLD_TIME: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(200);

impl World {
    /// From now on things go wrong.
    pub fn begin_to_suffer(&mut self) {
        self.suffers = true;
        self.plan_after(Duration::ZERO, Happening::Trouble);
    }

    pub fn suffer(&mut self) {
        if !self.suffers {
            return;
        }
        match self.random.below(20) {
            0..=3 => self.servers_change(),
            4 | 5 => self.traffic_fails(),
            6 | 7 => self.peer_fails(),
            8 => self.plane_stalls(),
            9 => self.checker_fails(),
            10 => self.address_is_stolen(),
            11 => {
                let until = self.now + self.random.millis(4000);
                self.note(|| "no address and no listener can be had".into());
                self.host.trouble_until = Some(until);
            }
            12..=14 => self.reload(),
            15 | 16 => {
                let times = self.random.between(0, 4);
                self.dither(times);
            }
            17 => self.release_by_command(),
            _ => self.process_ends(),
        }
        // At the worst instant: often one thing comes right after another.
        let most = if self.random.percent(30) { 30 } else { 5000 };
        let pause = self.random.millis(most);
        self.plan_after(pause, Happening::Trouble);
    }

    fn any_backend(&mut self) -> Option<BackendId> {
        let service = &self.config.services[self.random.index(self.config.services.len())];
        let backend = &service.backends[self.random.index(service.backends.len())];
        Some(service.backend_id(backend))
    }

    fn servers_change(&mut self) {
        let Some(one) = self.any_backend() else { return };
        let to = self.random.one_of(&[
            Server::Answers,
            Server::Answers,
            Server::Answers,
            Server::Refuses,
            Server::Refuses,
            Server::Hangs,
            Server::Late,
        ]);
        let of_service = self.random.percent(40);
        let all: Vec<BackendId> = self
            .checker
            .servers
            .keys()
            .filter(|id| **id == one || (of_service && id.service == one.service))
            .cloned()
            .collect();
        self.note(|| format!("{} servers of {}: {to:?}", all.len(), one.service));
        for id in all {
            self.checker.set_server(&id, to, self.now);
        }
    }

    /// Clients run into dead servers.
    fn traffic_fails(&mut self) {
        let dead = |id: &&BackendId| self.checker.servers.get(*id) == Some(&Server::Refuses);
        let ids: Vec<BackendId> = self
            .oracle
            .backends
            .keys()
            .filter(|id| self.oracle.is_eligible(id))
            .filter(dead)
            .cloned()
            .collect();
        for id in ids {
            for _ in 0..self.random.between(1, 4) {
                self.oracle.connect_failed(&id, self.now);
                self.steer.connect_failed(&id, "simulated", self.now);
                self.carry_out(false);
            }
        }
    }

    fn peer_fails(&mut self) {
        let (now, which) = (self.now, self.random.index(self.peers.len()));
        let (frozen, kind) = (now + self.random.millis(20_000), self.random.below(6));
        let peer = &mut self.peers[which];
        peer.link.handle_timeout(now);
        let trouble = match kind {
            0 => {
                peer.link.reset();
                SOON
            }
            1 | 2 => {
                peer.link.cut(kind == 1);
                HOLD_TIME
            }
            3 => {
                peer.link.freeze_peer(frozen);
                frozen - now + HOLD_TIME
            }
            4 => {
                peer.link.refuse(frozen);
                SOON
            }
            _ => {
                let farewell = if frozen - now < HOLD_TIME { Farewell::Reset } else { Farewell::Nothing };
                peer.link.restart_peer(farewell);
                HOLD_TIME
            }
        };
        // What happens to it while it is frozen shows only when it goes on.
        peer.trouble_until = peer.trouble_until.max(now) + trouble;
        self.note(|| format!("peer {which} has trouble of kind {kind}"));
    }

    fn plane_stalls(&mut self) {
        let until = self.now + self.random.millis(8000);
        self.note(|| "the data plane stands still".into());
        self.stall.get_or_insert((self.now, until));
    }

    fn checker_fails(&mut self) {
        let until = self.now + self.random.millis(12_000);
        if self.random.percent(60) {
            self.note(|| "the checker hangs".into());
            self.checker.hangs_until = self.checker.hangs_until.max(Some(until));
        } else {
            self.note(|| "no check can be made".into());
            self.checker.exhausted_until = self.checker.exhausted_until.max(Some(until));
        }
    }

    fn address_is_stolen(&mut self) {
        let vip = self.config.vips[self.random.index(self.config.vips.len())].address;
        if self.host.addresses.remove(&vip) {
            self.note(|| format!("somebody takes {vip} off the host"));
            self.stolen.insert(vip, self.now);
        }
    }

    fn reload(&mut self) {
        if !self.is_running || self.duty == Duty::Stopping {
            return;
        }
        let mut plan = self.plan.clone();
        for _ in 0..self.random.between(1, 2) {
            plan.change(&mut self.random);
        }
        if let Some(config) = plan.config() {
            self.note(|| "reload".into());
            (self.plan, self.config) = (plan, config);
            self.configure();
        }
    }

    /// An operator who cannot make up his mind.
    pub fn dither(&mut self, more: u64) {
        if !self.suffers {
            return;
        }
        if self.duty == Duty::Drained {
            self.undrain_by_command();
        } else {
            self.drain_by_command();
        }
        if more > 0 {
            let pause = self.random.millis(1500);
            self.plan_after(pause, Happening::Dither(more - 1));
        }
    }

    fn drain_by_command(&mut self) {
        if self.is_running && self.duty == Duty::Serving {
            self.note(|| "drain".into());
            self.drain(Duty::Drained);
        }
    }

    fn undrain_by_command(&mut self) {
        let granted = self.steer.undrain("simulated", self.now).is_ok();
        assert_eq!(granted, self.duty == Duty::Drained && self.is_running);
        if granted {
            self.note(|| "undrain".into());
            self.duty = Duty::Serving;
        }
    }

    fn release_by_command(&mut self) {
        for vip in self.config.vips.clone() {
            if self.steer.release(vip.address, self.now).is_ok() {
                self.note(|| format!("release {}", vip.address));
                self.oracle.released(vip.address);
            }
        }
    }

    fn process_ends(&mut self) {
        match self.random.below(4) {
            _ if !self.is_running || self.duty == Duty::Stopping => {}
            0 => {
                let pause = self.random.millis(2000);
                self.die(pause);
            }
            1 => {
                self.note(|| "SIGTERM".into());
                self.drain(Duty::Stopping);
            }
            _ => {}
        }
    }

    /// No more of it: what is dead stays dead, everything else is well from now on.
    pub fn heal(&mut self) {
        self.note(|| "no more trouble".into());
        self.suffers = false;
        self.host.trouble_until = None;
        self.stall = None;
        let late: Vec<BackendId> = self
            .checker
            .servers
            .iter()
            .filter(|(_, s)| **s == Server::Late)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.checker.set_server(&id, Server::Answers, self.now);
        }
        self.undrain_by_command();
        self.carry_out(false);
    }
}
