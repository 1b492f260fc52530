//! The body of any message: decoded, or refused with the NOTIFICATION that RFC 4271 §6 prescribes. The first octet chooses
//! the type and the session.
#![cfg_attr(feature = "link", no_main)]

use bgp_speaker::wire::{AttributeContext, Notification, Open, Refresh, Update};
use config::Family;
use contrail_lb_fuzz::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let context = AttributeContext {
        as4: choice & 0x80 != 0,
        internal: choice & 0x40 != 0,
        families: &[Family::Ipv4, Family::Ipv6],
        v4_over_v6: choice & 0x20 != 0,
    };
    let refused = match choice & 3 {
        0 => Open::decode(body).map(|open| drop(open.encode())).err(),
        1 => Update::decode(body, context)
            .map(|update| (update.end_of_rib(), update.path(context.as4), update.announced.iter().count()))
            .err(),
        2 => {
            if let Some(notification) = Notification::decode(body) {
                let _ = (notification.describe(), notification.encode());
            }
            None
        }
        _ => Refresh::decode(body).err(),
    };
    if let Some(error) = refused {
        let _ = error.notification().encode();
    }
});
