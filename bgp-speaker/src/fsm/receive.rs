//! What a message means: decoded as far as the state allows, and turned into an input of the table.
//!
//! The type is looked at before the body: a message that the state does not expect is that error (RFC 6608), whatever
//! is in it.

use std::time::Instant;

use super::collision::survivor;
use super::farewell::{Cause, lost_collision};
use super::negotiate::negotiate;
use super::peer::PeerFsm;
use super::table::Input;
use super::{Action, Slot};
use crate::status::PeerState;
use crate::wire::{AttributeContext, Frame, MessageKind, Notification, Open, Refresh, RefreshKind, Update};

impl PeerFsm {
    pub(super) fn receive(&mut self, slot: Slot, frame: Frame<'_>, now: Instant) {
        let state = self.link(slot).state;
        let unexpected = Cause::Message(frame.kind);
        match frame.kind {
            MessageKind::Open if state == PeerState::OpenSent => self.receive_open(slot, frame.body, now),
            MessageKind::Open => self.advance(slot, Input::Open, unexpected, now),
            MessageKind::Keepalive => self.advance(slot, Input::Keepalive, unexpected, now),
            MessageKind::Update if state == PeerState::Established => {
                self.receive_update(slot, frame.body, now);
            }
            MessageKind::Update => self.advance(slot, Input::Update, unexpected, now),
            MessageKind::RouteRefresh if state == PeerState::Established => {
                self.receive_refresh(slot, frame.body, now);
            }
            MessageKind::RouteRefresh => self.advance(slot, Input::Refresh, unexpected, now),
            MessageKind::Notification => {
                let cause = Notification::decode(frame.body).map_or(Cause::None, Cause::Told);
                self.advance(slot, Input::Notification, cause, now);
            }
        }
    }

    fn receive_open(&mut self, slot: Slot, body: &[u8], now: Instant) {
        let agreed = Open::decode(body).and_then(|open| negotiate(&self.params, &open));
        let negotiated = match agreed {
            Ok(negotiated) => negotiated,
            Err(error) => return self.advance(slot, Input::OpenInvalid, Cause::defect(&error), now),
        };
        if self.link(slot.other()).is_agreed() {
            let local = (self.params.router_id, self.params.local_as);
            let remote = (negotiated.remote_router_id, self.params.remote_as);
            let loser = survivor(local, remote).other();
            self.advance(loser, Input::CollisionLost, lost_collision(), now);
            if loser == slot {
                return;
            }
        }
        self.link_mut(slot).negotiated = Some(negotiated);
        self.advance(slot, Input::Open, Cause::None, now);
    }

    fn receive_update(&mut self, slot: Slot, body: &[u8], now: Instant) {
        let Some(negotiated) = &self.link(slot).negotiated else { return };
        let context = AttributeContext {
            as4: negotiated.as4,
            internal: self.params.internal(),
            families: &negotiated.families,
            v4_over_v6: negotiated.extended_next_hop,
        };
        match Update::decode(body, context) {
            Ok(update) => {
                let announced = update.announced_count();
                self.actions.push_back(Action::Update { announced, disposition: update.disposition });
                self.advance(slot, Input::Update, Cause::None, now);
            }
            Err(error) => self.advance(slot, Input::UpdateInvalid, Cause::defect(&error), now),
        }
    }

    fn receive_refresh(&mut self, slot: Slot, body: &[u8], now: Instant) {
        match Refresh::decode(body) {
            // Begin and End demarcate the peer's routes; we hold none.
            Ok(Some(Refresh { family, kind: RefreshKind::Request })) => {
                let negotiated = self.link(slot).negotiated.as_ref();
                if negotiated.is_some_and(|negotiated| negotiated.families.contains(&family)) {
                    self.actions.push_back(Action::Refresh(family));
                }
                self.advance(slot, Input::Refresh, Cause::None, now);
            }
            Ok(_) => self.advance(slot, Input::Refresh, Cause::None, now),
            Err(error) => self.advance(slot, Input::RefreshInvalid, Cause::defect(&error), now),
        }
    }
}
