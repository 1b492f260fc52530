//! The configurations of a run: small random ones, and what a reload makes of them.

use std::fmt::Write as _;
use std::sync::Arc;

use config::Config;

use super::random::Random;

/// The first host number of the VIPs.
const FIRST_VIP: u8 = 100;
const MOST_VIPS: usize = 3;
const MOST_SERVICES: usize = 4;
const MOST_BACKENDS: usize = 3;

#[derive(Debug, Clone)]
pub struct Plan {
    vips: Vec<Vip>,
    services: Vec<Service>,
    drain_timeout: u64,
    /// The second peer is no router.
    has_fellow: bool,
    /// What is added next gets this number.
    next: u8,
}

#[derive(Debug, Clone)]
struct Vip {
    host: u8,
    on_short: &'static str,
    on_all_down: &'static str,
    announce_delay: u64,
    max_delay: u64,
    peers: &'static str,
}

#[derive(Debug, Clone)]
struct Service {
    number: u8,
    vips: Vec<u8>,
    required: bool,
    min_healthy: usize,
    check: Check,
    /// Their host numbers, and whether they are disabled.
    backends: Vec<(u8, bool)>,
}

#[derive(Debug, Clone)]
struct Check {
    interval: u64,
    fast: Option<u64>,
    down: Option<u64>,
    timeout: u64,
    rise: u64,
    fall: u64,
    passive: u64,
}

impl Plan {
    pub fn random(random: &mut Random) -> Self {
        let (drain_timeout, has_fellow) = (2 + random.below(10), random.percent(50));
        let mut plan = Plan { vips: vec![], services: vec![], drain_timeout, has_fellow, next: 1 };
        for _ in 0..random.between(1, 2) {
            plan.add_vip(random);
        }
        plan
    }

    fn add_vip(&mut self, random: &mut Random) {
        let free =
            (0..MOST_VIPS as u8).map(|n| FIRST_VIP + n).find(|h| self.vips.iter().all(|v| v.host != *h));
        let Some(host) = free else { return };
        self.vips.push(Vip {
            host,
            on_short: random.one_of(&["degrade", "degrade", "withdraw"]),
            on_all_down: random.one_of(&["withdraw", "withdraw", "last_resort", "hold"]),
            announce_delay: random.one_of(&[0, 500, 2000]),
            max_delay: random.one_of(&[0, 5, 15]),
            peers: random.one_of(&["[]", "[]", "[\"tor-a\"]"]),
        });
        self.add_service(random, host);
    }

    fn add_service(&mut self, random: &mut Random, vip: u8) {
        if self.services.len() == MOST_SERVICES {
            let at = random.index(self.services.len());
            self.services[at].vips.push(vip);
            return;
        }
        let backends =
            (0..random.between(1, MOST_BACKENDS as u64)).map(|_| (self.number(), false)).collect::<Vec<_>>();
        let number = self.number();
        self.services.push(Service {
            number,
            vips: vec![vip],
            required: random.below(5) > 0,
            min_healthy: random.between(1, backends.len() as u64) as usize,
            check: Check::random(random),
            backends,
        });
    }

    fn number(&mut self) -> u8 {
        self.next += 1;
        self.next
    }

    /// What an operator might do to the file.
    pub fn change(&mut self, random: &mut Random) {
        let service = random.index(self.services.len());
        let vip = random.index(self.vips.len());
        match random.below(9) {
            0 => self.add_vip(random),
            1 if self.vips.len() > 1 => {
                let host = self.vips.remove(vip).host;
                self.services.iter_mut().for_each(|s| s.vips.retain(|v| *v != host));
                self.services.retain(|s| !s.vips.is_empty());
            }
            2 => {
                let host = self.vips[vip].host;
                self.add_service(random, host);
            }
            3 if self.services.len() > 1 => {
                self.services.remove(service);
            }
            4 => {
                let number = self.number();
                self.services[service].backends.push((number, false));
            }
            5 if self.services[service].backends.len() > 1 => {
                let service = &mut self.services[service];
                let at = random.index(service.backends.len());
                service.backends.remove(at);
                service.min_healthy = service.min_healthy.min(service.backends.len());
            }
            6 => self.services[service].check = Check::random(random),
            7 => {
                let backends = &mut self.services[service].backends;
                let at = random.index(backends.len());
                backends[at].1 = !backends[at].1;
            }
            _ => {
                let vip = &mut self.vips[vip];
                vip.on_all_down = random.one_of(&["withdraw", "last_resort", "hold"]);
                vip.announce_delay = random.one_of(&[0, 500, 2000]);
            }
        }
    }

    /// `None`: such a file is refused, and changes nothing.
    pub fn config(&self) -> Option<Arc<Config>> {
        config::parse(&self.text(), "simulation").ok().map(|loaded| Arc::new(loaded.config))
    }

    fn text(&self) -> String {
        let mut text = format!("[global]\ndrain_timeout = \"{}s\"\n", self.drain_timeout);
        text += "[bgp]\nlocal_as = 64512\nrouter_id = \"10.0.0.1\"\n";
        for (name, host) in [("tor-a", 1), ("tor-b", 2)] {
            let fellow = self.has_fellow && host == 2;
            let _ = write!(
                text,
                "[[bgp.peer]]\nname = \"{name}\"\naddress = \"10.1.0.{host}\"\nremote_as = 64500\nfellow = {fellow}\n"
            );
        }
        self.vips.iter().for_each(|vip| vip.write(&mut text));
        self.services.iter().for_each(|service| service.write(&mut text));
        text
    }
}

impl Vip {
    fn write(&self, text: &mut String) {
        let Vip { host, on_short, on_all_down, announce_delay, max_delay, peers } = self;
        let _ = write!(
            text,
            "[[vip]]\naddress = \"192.0.2.{host}\"\non_short = \"{on_short}\"\non_all_down = \"{on_all_down}\"\n\
             announce_delay = \"{announce_delay}ms\"\npeers = {peers}\n\
             flap = {{ half_life = \"10s\", max_delay = \"{max_delay}s\" }}\n"
        );
    }
}

impl Service {
    fn write(&self, text: &mut String) {
        let Service { number, vips, required, min_healthy, check, backends } = self;
        let vips: Vec<String> = vips.iter().map(|host| format!("\"192.0.2.{host}\"")).collect();
        let port = 8000 + u16::from(*number);
        let Check { interval, timeout, rise, fall, passive, .. } = check;
        let _ = write!(
            text,
            "[[service]]\nname = \"s{number}\"\nvip = [{}]\nports = [{port}]\nrequired = {required}\n\
             min_healthy = {min_healthy}\npassive = {{ failures = {passive} }}\n\
             check = {{ interval = \"{interval}ms\", timeout = \"{timeout}ms\", rise = {rise}, fall = {fall}",
            vips.join(", ")
        );
        for (key, value) in [("fast_interval", check.fast), ("down_interval", check.down)] {
            if let Some(value) = value {
                let _ = write!(text, ", {key} = \"{value}ms\"");
            }
        }
        text.push_str(" }\n");
        for (host, disabled) in backends {
            let _ = write!(
                text,
                "[[service.backend]]\nname = \"b{host}\"\naddress = \"10.2.0.{host}:{port}\"\ndisabled = {disabled}\n"
            );
        }
    }
}

impl Check {
    fn random(random: &mut Random) -> Self {
        let interval = random.one_of(&[500, 1000, 2000]);
        Check {
            interval,
            fast: random.one_of(&[None, Some(interval / 4)]),
            down: random.one_of(&[None, Some(interval * 2)]),
            timeout: random.one_of(&[200, interval]),
            rise: random.between(1, 3),
            fall: random.between(1, 3),
            passive: random.between(1, 4),
        }
    }
}
