//! UPDATE (RFC 4271 §4.3) as received: where its three parts are and what they are worth (RFC 7606).

use config::Family;

use super::attribute::{
    AS_PATH, AttributeContext, Disposition, LOCAL_PREF, MP_REACH_NLRI, NEXT_HOP, ORIGIN, Walked,
};
use super::error::WireError;
use super::nlri::Prefixes;
use super::path::Path;
use super::reader::Reader;

/// A received UPDATE; prefixes stay where they are in the message.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// Withdrawn, classic encoding (IPv4).
    pub withdrawn: Prefixes<'a>,
    /// Announced, classic encoding (IPv4).
    pub announced: Prefixes<'a>,
    /// Announced in MP_REACH_NLRI, of a negotiated family.
    pub reach: Option<Prefixes<'a>>,
    /// Withdrawn in MP_UNREACH_NLRI, of a negotiated family.
    pub unreach: Option<Prefixes<'a>>,
    /// What malformed attributes cost it.
    pub disposition: Disposition,
    /// The attributes, all of them, unparsed.
    pub attributes: &'a [u8],
}

impl<'a> Update<'a> {
    /// An error costs the session; every other defect is in [`Update::disposition`].
    pub fn decode(body: &'a [u8], context: AttributeContext<'_>) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let withdrawn = reader.block16().ok_or(WireError::MalformedAttributeList)?;
        let attributes = reader.block16().ok_or(WireError::MalformedAttributeList)?;
        let withdrawn = Prefixes::parse(Family::Ipv4, withdrawn).ok_or(WireError::InvalidNetworkField)?;
        let announced = Prefixes::parse(Family::Ipv4, reader.rest()).ok_or(WireError::InvalidNetworkField)?;
        let mut walked = Walked::walk(attributes, context)?;
        require_well_known(&mut walked, &announced, context);
        let reachable = !announced.is_empty() || walked.seen.contains(MP_REACH_NLRI);
        if let (Some(error), false, true) = (walked.first_error.take(), reachable, walked.others) {
            // RFC 7606 §5.2: the routes cannot be told apart from those that were lost.
            return Err(error);
        }
        Ok(Update {
            withdrawn,
            announced,
            reach: walked.reach,
            unreach: walked.unreach,
            disposition: walked.disposition,
            attributes,
        })
    }

    /// End-of-RIB (RFC 4724 §2): nothing at all, or an MP_UNREACH_NLRI without prefixes and nothing else.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.announced.is_empty() || self.reach.is_some() {
            return None;
        }
        match self.unreach {
            None => self.attributes.is_empty().then_some(Family::Ipv4),
            Some(prefixes) => prefixes.is_empty().then_some(prefixes.family()),
        }
    }

    /// How what it announces is reached.
    pub fn path(&self, as4: bool) -> Path {
        Path::read(self.attributes, as4)
    }

    /// Prefixes announced to us.
    pub fn announced_count(&self) -> usize {
        self.announced.len() + self.reach.map_or(0, |prefixes| prefixes.len())
    }
}

/// A route without its mandatory attributes is withdrawn (RFC 4271 §5, RFC 7606 §3 d).
fn require_well_known(walked: &mut Walked<'_>, announced: &Prefixes<'_>, context: AttributeContext<'_>) {
    if announced.is_empty() && walked.reach.is_none() {
        return;
    }
    let required =
        [(ORIGIN, true), (AS_PATH, true), (NEXT_HOP, !announced.is_empty()), (LOCAL_PREF, context.internal)];
    for (kind, needed) in required {
        if needed && !walked.seen.contains(kind) {
            walked.missing(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notification::Notification;
    use super::*;

    const BOTH: &[Family] = &[Family::Ipv4, Family::Ipv6];
    const EXTERNAL: AttributeContext<'static> =
        AttributeContext { as4: true, internal: false, families: BOTH, v4_over_v6: false };
    const INTERNAL: AttributeContext<'static> =
        AttributeContext { as4: true, internal: true, families: BOTH, v4_over_v6: false };

    const ORIGIN_IGP: &[u8] = &[0x40, 1, 1, 0];
    const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
    const HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
    const NET: &[u8] = &[24, 198, 51, 100];
    const REACH_V6: &[u8] =
        &[0x80, 14, 22, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

    fn body(withdrawn: &[u8], attributes: &[&[u8]], announced: &[u8]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(withdrawn);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend_from_slice(announced);
        body
    }

    /// A complete announcement with `attribute` in addition, or instead of the one of the same type.
    fn with(attribute: &[u8]) -> Vec<u8> {
        let mut attributes: Vec<&[u8]> = vec![ORIGIN_IGP, PATH, HOP];
        attributes.retain(|known| known[1] != attribute[1]);
        attributes.push(attribute);
        body(&[], &attributes, NET)
    }

    fn disposition(body: &[u8], context: AttributeContext<'_>) -> Disposition {
        Update::decode(body, context).unwrap().disposition
    }

    fn refused(body: &[u8]) -> Notification {
        Update::decode(body, EXTERNAL).unwrap_err().notification()
    }

    #[test]
    fn a_well_formed_announcement_is_accepted_with_its_prefixes() {
        let body = body(&[16, 10, 1], &[ORIGIN_IGP, PATH, HOP], NET);
        let update = Update::decode(&body, EXTERNAL).unwrap();
        assert_eq!(update.disposition, Disposition::Accept);
        assert_eq!(update.announced.iter().collect::<Vec<_>>(), ["198.51.100.0/24".parse().unwrap()]);
        assert_eq!(update.withdrawn.iter().collect::<Vec<_>>(), ["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(update.announced_count(), 1);
    }

    #[test]
    fn end_of_rib_is_told_apart_from_everything_else() {
        let classic = body(&[], &[], &[]);
        let multiprotocol = body(&[], &[&[0x80, 15, 3, 0, 2, 1]], &[]);
        let withdrawal = body(&[], &[&[0x80, 15, 4, 0, 2, 1, 0]], &[]);
        let eor = |body: &[u8]| Update::decode(body, EXTERNAL).unwrap().end_of_rib();
        assert_eq!(eor(&classic), Some(Family::Ipv4));
        assert_eq!(eor(&multiprotocol), Some(Family::Ipv6));
        assert_eq!(eor(&withdrawal), None);
        assert_eq!(eor(&with(ORIGIN_IGP)), None);
    }

    #[test]
    fn lengths_that_contradict_each_other_reset_the_session_with_3_1() {
        for body in [&[0, 1][..], &[0, 9, 0, 0], &[0, 0, 0, 1], &[0, 0, 0, 9, 0x40, 1, 1, 0], &[0]] {
            assert_eq!(refused(body), Notification::new(3, 1, vec![]), "{body:?}");
        }
    }

    #[test]
    fn a_prefix_that_cannot_be_parsed_resets_the_session_with_3_10() {
        let announced = body(&[], &[ORIGIN_IGP, PATH, HOP], &[33, 1, 2, 3, 4, 5]);
        let withdrawn = body(&[24, 1], &[], &[]);
        for body in [announced, withdrawn] {
            assert_eq!(refused(&body), Notification::new(3, 10, vec![]));
        }
    }

    #[test]
    fn each_malformed_attribute_costs_what_rfc_7606_says() {
        use Disposition::{Accept, AttributeDiscard as Discard, TreatAsWithdraw as Withdraw};
        // (section, attribute, from an external peer, from an internal peer that also sent LOCAL_PREF)
        let table: &[(&str, &[u8], Disposition, Disposition)] = &[
            ("7.1 origin too long", &[0x40, 1, 2, 0, 0], Withdraw, Withdraw),
            ("7.1 origin undefined", &[0x40, 1, 1, 3], Withdraw, Withdraw),
            ("7.2 path empty", &[0x40, 2, 0], Accept, Accept),
            ("7.2 segment empty", &[0x40, 2, 2, 2, 0], Withdraw, Withdraw),
            ("7.2 segment overruns", &[0x40, 2, 6, 2, 2, 0, 0, 0, 1], Withdraw, Withdraw),
            ("7.2 one octet left", &[0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2], Withdraw, Withdraw),
            ("7.2 segment type unknown", &[0x40, 2, 6, 5, 1, 0, 0, 0, 1], Withdraw, Withdraw),
            ("RFC 5065 confederation", &[0x40, 2, 6, 3, 1, 0, 0, 0, 1], Withdraw, Withdraw),
            ("RFC 7607 AS 0", &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], Withdraw, Withdraw),
            ("7.3 next hop too short", &[0x40, 3, 3, 1, 2, 3], Withdraw, Withdraw),
            ("7.4 MED too long", &[0x80, 4, 5, 0, 0, 0, 0, 1], Withdraw, Withdraw),
            ("7.5 local pref right", &[0x40, 5, 4, 0, 0, 0, 100], Discard, Accept),
            ("7.5 local pref short", &[0x40, 5, 3, 0, 0, 100], Discard, Withdraw),
            ("7.6 atomic aggregate not empty", &[0x40, 6, 1, 0], Discard, Discard),
            ("7.7 aggregator of 2-octet size", &[0xc0, 7, 6, 0, 1, 1, 2, 3, 4], Discard, Discard),
            ("7.7 aggregator right", &[0xc0, 7, 8, 0, 0, 0, 1, 1, 2, 3, 4], Accept, Accept),
            ("RFC 7607 aggregator AS 0", &[0xc0, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4], Discard, Discard),
            ("7.8 communities empty", &[0xc0, 8, 0], Withdraw, Withdraw),
            ("7.8 communities odd", &[0xc0, 8, 5, 1, 2, 3, 4, 5], Withdraw, Withdraw),
            ("7.9 originator id short", &[0x80, 9, 3, 1, 2, 3], Discard, Withdraw),
            ("7.10 cluster list empty", &[0x80, 10, 0], Discard, Withdraw),
            ("7.14 extended communities odd", &[0xc0, 16, 4, 1, 2, 3, 4], Withdraw, Withdraw),
            ("7.15 IPv6 extended communities odd", &[0xc0, 25, 4, 1, 2, 3, 4], Withdraw, Withdraw),
            ("RFC 8092 large communities empty", &[0xc0, 32, 0], Withdraw, Withdraw),
            ("RFC 6793 AS4_PATH from a 4-octet peer", &[0xc0, 17, 0], Discard, Discard),
            ("RFC 6793 AS4_AGGREGATOR likewise", &[0xc0, 18, 8, 0, 0, 0, 1, 1, 1, 1, 1], Discard, Discard),
            ("RFC 9234 only to customer", &[0xc0, 35, 4, 0, 0, 0, 1], Accept, Accept),
            ("RFC 9234 only to customer short", &[0xc0, 35, 3, 0, 0, 1], Withdraw, Withdraw),
            ("3 c origin optional", &[0xc0, 1, 1, 0], Withdraw, Withdraw),
            ("3 c MED transitive", &[0xc0, 4, 4, 0, 0, 0, 1], Withdraw, Withdraw),
            ("unknown optional", &[0xc0, 200, 1, 7], Accept, Accept),
            ("extended length where none is needed", &[0x50, 1, 0, 1, 0], Accept, Accept),
        ];
        for (name, attribute, external, internal) in table {
            assert_eq!(disposition(&with(attribute), EXTERNAL), *external, "{name}, external");
            let mut attributes: Vec<&[u8]> = vec![ORIGIN_IGP, PATH, HOP, &[0x40, 5, 4, 0, 0, 0, 100]];
            attributes.retain(|known| known[1] != attribute[1]);
            attributes.push(attribute);
            assert_eq!(disposition(&body(&[], &attributes, NET), INTERNAL), *internal, "{name}, internal");
        }
    }

    #[test]
    fn towards_a_two_octet_peer_paths_are_read_with_two_octets() {
        let old = AttributeContext { as4: false, ..EXTERNAL };
        assert_eq!(disposition(&with(&[0x40, 2, 4, 2, 1, 0xfd, 0xe8]), old), Disposition::Accept);
        assert_eq!(disposition(&with(PATH), old), Disposition::TreatAsWithdraw);
        let mut attributes = vec![ORIGIN_IGP, &[0x40, 2, 4, 2, 1, 0x5b, 0xa0], HOP];
        attributes.push(&[0xc0, 17, 6, 2, 1, 0, 1, 0, 0]);
        assert_eq!(disposition(&body(&[], &attributes, NET), old), Disposition::Accept);
    }

    #[test]
    fn a_missing_mandatory_attribute_costs_the_routes() {
        for missing in [1, 2, 3] {
            let mut attributes = vec![ORIGIN_IGP, PATH, HOP];
            attributes.retain(|attribute| attribute[1] != missing);
            assert_eq!(disposition(&body(&[], &attributes, NET), EXTERNAL), Disposition::TreatAsWithdraw);
        }
        let internal = disposition(&body(&[], &[ORIGIN_IGP, PATH, HOP], NET), INTERNAL);
        assert_eq!(internal, Disposition::TreatAsWithdraw, "LOCAL_PREF is mandatory inside an AS");
        let v6 = body(&[], &[ORIGIN_IGP, PATH, REACH_V6], &[]);
        assert_eq!(disposition(&v6, EXTERNAL), Disposition::Accept, "NEXT_HOP is for classic NLRI only");
    }

    #[test]
    fn a_repeated_attribute_is_discarded_but_repeated_multiprotocol_nlri_resets_with_3_1() {
        let twice = body(&[], &[ORIGIN_IGP, PATH, HOP, ORIGIN_IGP], NET);
        assert_eq!(disposition(&twice, EXTERNAL), Disposition::AttributeDiscard);
        let reach = body(&[], &[ORIGIN_IGP, PATH, REACH_V6, REACH_V6], &[]);
        assert_eq!(refused(&reach), Notification::new(3, 1, vec![]));
    }

    #[test]
    fn an_attribute_that_overruns_costs_the_routes_where_the_nlri_is_still_found() {
        for tail in [&[0x40, 8, 200, 1][..], &[0xc0], &[0xc0, 8], &[0xd0, 8, 0]] {
            let body = body(&[], &[ORIGIN_IGP, PATH, HOP, tail], NET);
            assert_eq!(disposition(&body, EXTERNAL), Disposition::TreatAsWithdraw, "{tail:?}");
        }
    }

    #[test]
    fn an_error_without_any_route_resets_the_session_with_that_error() {
        let origin = [0x40, 1, 1, 9];
        assert_eq!(refused(&body(&[], &[&origin], &[])), Notification::new(3, 6, origin.to_vec()));
        let flags = [0xc0, 3, 4, 1, 2, 3, 4];
        assert_eq!(refused(&body(&[], &[&flags], &[])), Notification::new(3, 4, flags.to_vec()));
        let length = [0x80, 4, 1, 0];
        assert_eq!(refused(&body(&[], &[&length], &[])), Notification::new(3, 5, length.to_vec()));
        let path = [0x40, 2, 1, 0];
        assert_eq!(refused(&body(&[], &[&path], &[])), Notification::new(3, 11, vec![]));
    }

    #[test]
    fn an_unknown_well_known_attribute_resets_the_session_with_the_attribute() {
        let unknown = [0x40, 99, 2, 1, 2];
        assert_eq!(refused(&with(&unknown)), Notification::new(3, 2, unknown.to_vec()));
    }

    #[test]
    fn multiprotocol_nlri_whose_routes_cannot_be_found_resets_the_session_with_3_9() {
        let wrong: [&[u8]; 7] = [
            &[0x80, 14, 2, 0, 2],
            &[0x80, 14, 5, 0, 2, 1, 0, 0],
            &[0x80, 14, 9, 0, 2, 1, 4, 1, 2, 3, 4, 0],
            &[0x80, 14, 5, 0, 2, 1, 200, 0],
            &[0x80, 14, 10, 0, 1, 1, 4, 1, 2, 3, 4, 0, 40],
            &[0x80, 15, 1, 0],
            &[0x80, 15, 5, 0, 2, 1, 64, 1],
        ];
        for attribute in wrong {
            let body = body(&[], &[ORIGIN_IGP, PATH, attribute], &[]);
            assert_eq!(refused(&body), Notification::new(3, 9, attribute.to_vec()), "{attribute:?}");
        }
    }

    #[test]
    fn an_ipv6_next_hop_of_ipv4_routes_is_read_only_where_it_was_negotiated() {
        let mut reach = vec![0x80, 14, 25, 0, 1, 1, 16];
        reach.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        reach.extend([24, 198, 51, 100]);
        let body = body(&[], &[ORIGIN_IGP, PATH, &reach], &[]);
        let negotiated = AttributeContext { v4_over_v6: true, ..EXTERNAL };
        assert_eq!(Update::decode(&body, negotiated).unwrap().announced_count(), 1);
        assert_eq!(refused(&body), Notification::new(3, 9, reach));
    }

    #[test]
    fn a_family_that_was_not_negotiated_is_ignored() {
        let v4_only = AttributeContext { families: &[Family::Ipv4], ..EXTERNAL };
        let body = body(&[], &[ORIGIN_IGP, PATH, REACH_V6], &[]);
        let update = Update::decode(&body, v4_only).unwrap();
        assert_eq!((update.announced_count(), update.end_of_rib()), (0, None));
        let evpn = [0x80, 14, 6, 0, 25, 70, 0, 0, 1];
        let body = super::tests::body(&[], &[ORIGIN_IGP, PATH, &evpn], &[]);
        assert_eq!(Update::decode(&body, EXTERNAL).unwrap().announced_count(), 0);
    }
}
