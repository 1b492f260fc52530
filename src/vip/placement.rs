//! Which addresses we have put on which interface: what we may take off again, and what a refused change takes back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::Vip;

use super::address::{Added, AddressError, Addresses};

#[derive(Default)]
pub struct Placement {
    /// Opened with the first address that is ours to place.
    netlink: Option<Addresses>,
    ours: BTreeMap<IpAddr, String>,
}

/// An address that has just been put on an interface.
#[derive(Debug)]
pub struct Placed {
    address: IpAddr,
    /// `None`: it is the operator's business from now on.
    interface: Option<String>,
    /// Where it was before and still is.
    before: Option<String>,
}

impl Placed {
    fn new(vip: &Vip, interface: Option<String>, before: Option<String>) -> Self {
        Placed { address: vip.address, interface, before }
    }
}

impl Placement {
    /// Puts the VIP on its interface, unless it is there already or the operator's business. Where we have put it on
    /// another one before, it stays there too until [`Placement::keep`].
    pub async fn place(&mut self, vip: &Vip) -> Result<Option<Placed>, AddressError> {
        let before = self.ours.get(&vip.address).cloned();
        let Some(interface) = &vip.interface else {
            return Ok(before.map(|before| Placed::new(vip, None, Some(before))));
        };
        if before.as_ref() == Some(interface) {
            return Ok(None);
        }
        if self.netlink.is_none() {
            self.netlink = Some(Addresses::connect().await?);
        }
        let Some(netlink) = &self.netlink else { return Ok(None) };
        match netlink.add(vip.address, interface).await? {
            Added::New => {
                self.ours.insert(vip.address, interface.clone());
                Ok(Some(Placed::new(vip, Some(interface.clone()), before)))
            }
            Added::AlreadyThere => Ok(None),
        }
    }

    /// What was placed stays: it leaves the interfaces it was on before.
    pub async fn keep(&mut self, placed: impl IntoIterator<Item = Placed>) {
        for Placed { address, interface, before } in placed {
            if interface.is_none() {
                self.ours.remove(&address);
            }
            if let Some(before) = before {
                self.take_off(address, &before).await;
            }
        }
    }

    /// What was placed goes: it stays where it was before, if anywhere.
    pub async fn take_back(&mut self, placed: impl IntoIterator<Item = Placed>) {
        for Placed { address, interface, before } in placed {
            if let Some(interface) = interface {
                self.take_off(address, &interface).await;
            }
            match before {
                Some(before) => self.ours.insert(address, before),
                None => self.ours.remove(&address),
            };
        }
    }

    /// Takes an address of ours off the host; another is left alone.
    pub async fn remove(&mut self, address: IpAddr) {
        if let Some(interface) = self.ours.remove(&address) {
            self.take_off(address, &interface).await;
        }
    }

    pub async fn remove_all(&mut self) {
        for (address, interface) in std::mem::take(&mut self.ours) {
            self.take_off(address, &interface).await;
        }
    }

    /// Somebody else took it off.
    pub fn forget(&mut self, address: IpAddr) {
        self.ours.remove(&address);
    }

    async fn take_off(&self, address: IpAddr, interface: &str) {
        let Some(netlink) = &self.netlink else { return };
        if let Err(error) = netlink.remove(address, interface).await {
            tracing::error!(vip = %address, "{error}");
        }
    }
}
