//! The transition table of one connection (RFC 4271 §8.2.2): what an input means in a state. Data, nothing else.
//!
//! Left out are the options we do not have (DelayOpen, unconfigured peers, tracking of TCP connections in progress).
//! Where it departs from the text: a NOTIFICATION is never answered with one (OpenSent, event 25), an unsuccessful dial
//! keeps listening (Connect and Active, event 18: to Active as with DelayOpen, not to Idle), and a bad header has its own
//! code in every state (Established, event 21; §6.1).

use crate::status::PeerState;
use crate::wire::fsm_error;

/// The events of RFC 4271 §8.1 that apply, RFC 9687's, BFD's, and those of ROUTE-REFRESH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// 1 ManualStart, 13 IdleHoldTimer_Expires.
    Start,
    /// 4 ManualStart_with_PassiveTcpEstablishment.
    StartPassive,
    /// 2 ManualStop, 8 AutomaticStop.
    Stop,
    /// BFD says that the way to the peer is dead (RFC 5882 §4.3, RFC 9384).
    PathDown,
    /// 9.
    ConnectRetryExpired,
    /// 10.
    HoldExpired,
    /// 11.
    KeepaliveExpired,
    /// 16 Tcp_CR_Acked, 17 TcpConnectionConfirmed.
    TcpUp,
    /// 18 TcpConnectionFails.
    TcpDown,
    /// 19 BGPOpen, valid and the survivor of a collision.
    Open,
    /// 21.
    HeaderInvalid,
    /// 22.
    OpenInvalid,
    /// 23 OpenCollisionDump.
    CollisionLost,
    /// 24 NotifMsgVerErr, 25 NotifMsg.
    Notification,
    /// 26.
    Keepalive,
    /// 27.
    Update,
    /// 28.
    UpdateInvalid,
    /// 29 SendHoldTimer_Expires (RFC 9687 §3.2).
    SendHoldExpired,
    /// A ROUTE-REFRESH (RFC 2918).
    Refresh,
    /// A ROUTE-REFRESH that is wrong (RFC 7313 §5).
    RefreshInvalid,
}

/// What to do about it. The state that follows is in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ignore,
    /// Dial, giving up a dial in progress: Connect.
    Dial,
    /// Listen, and dial again later if this is the slot that dials: Active.
    Wait,
    /// Send our OPEN: OpenSent.
    SendOpen,
    /// Answer the peer's OPEN with a KEEPALIVE: OpenConfirm.
    Confirm,
    /// Established.
    Establish,
    RestartHold,
    SendKeepalive,
    TakeUpdate,
    AnswerRefresh,
    /// Idle.
    Close(Farewell),
}

/// The NOTIFICATION to leave with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// None: there is nobody to tell, or the peer had the last word.
    Silent,
    /// The one that came with the input.
    Given,
    HoldTimer,
    /// None could get through: reset.
    SendHoldTimer,
    /// A message that this state does not expect (RFC 6608), with the subcode.
    Unexpected(u8),
}

/// What `input` means in `state`.
pub(super) fn step(state: PeerState, input: Input) -> Step {
    match state {
        PeerState::Idle => in_idle(input),
        PeerState::Connect | PeerState::Active => without_connection(input),
        PeerState::OpenSent => in_open_sent(input),
        PeerState::OpenConfirm => in_open_confirm(input),
        PeerState::Established => in_established(input),
    }
}

fn in_idle(input: Input) -> Step {
    match input {
        Input::Start => Step::Dial,
        Input::StartPassive => Step::Wait,
        Input::Stop
        | Input::PathDown
        | Input::ConnectRetryExpired
        | Input::HoldExpired
        | Input::KeepaliveExpired
        | Input::SendHoldExpired
        | Input::TcpUp
        | Input::TcpDown
        | Input::Open
        | Input::HeaderInvalid
        | Input::OpenInvalid
        | Input::CollisionLost
        | Input::Notification
        | Input::Keepalive
        | Input::Update
        | Input::UpdateInvalid
        | Input::Refresh
        | Input::RefreshInvalid => Step::Ignore,
    }
}

fn without_connection(input: Input) -> Step {
    match input {
        Input::ConnectRetryExpired => Step::Dial,
        Input::TcpUp => Step::SendOpen,
        Input::TcpDown => Step::Wait,
        Input::Start | Input::StartPassive | Input::PathDown => Step::Ignore,
        Input::Stop
        | Input::HoldExpired
        | Input::KeepaliveExpired
        | Input::SendHoldExpired
        | Input::Open
        | Input::HeaderInvalid
        | Input::OpenInvalid
        | Input::CollisionLost
        | Input::Notification
        | Input::Keepalive
        | Input::Update
        | Input::UpdateInvalid
        | Input::Refresh
        | Input::RefreshInvalid => Step::Close(Farewell::Silent),
    }
}

fn in_open_sent(input: Input) -> Step {
    match input {
        Input::Open => Step::Confirm,
        Input::TcpDown => Step::Wait,
        Input::Start | Input::StartPassive | Input::TcpUp => Step::Ignore,
        Input::Stop | Input::PathDown | Input::HeaderInvalid | Input::OpenInvalid | Input::CollisionLost => {
            Step::Close(Farewell::Given)
        }
        Input::HoldExpired => Step::Close(Farewell::HoldTimer),
        Input::SendHoldExpired => Step::Close(Farewell::SendHoldTimer),
        Input::Notification => Step::Close(Farewell::Silent),
        Input::ConnectRetryExpired
        | Input::KeepaliveExpired
        | Input::Keepalive
        | Input::Update
        | Input::UpdateInvalid
        | Input::Refresh
        | Input::RefreshInvalid => Step::Close(Farewell::Unexpected(fsm_error::OPEN_SENT)),
    }
}

fn in_open_confirm(input: Input) -> Step {
    match input {
        Input::Keepalive => Step::Establish,
        Input::KeepaliveExpired => Step::SendKeepalive,
        Input::Start | Input::StartPassive | Input::TcpUp => Step::Ignore,
        Input::Stop | Input::PathDown | Input::HeaderInvalid | Input::OpenInvalid | Input::CollisionLost => {
            Step::Close(Farewell::Given)
        }
        Input::HoldExpired => Step::Close(Farewell::HoldTimer),
        Input::SendHoldExpired => Step::Close(Farewell::SendHoldTimer),
        Input::TcpDown | Input::Notification => Step::Close(Farewell::Silent),
        Input::ConnectRetryExpired
        | Input::Open
        | Input::Update
        | Input::UpdateInvalid
        | Input::Refresh
        | Input::RefreshInvalid => Step::Close(Farewell::Unexpected(fsm_error::OPEN_CONFIRM)),
    }
}

fn in_established(input: Input) -> Step {
    match input {
        Input::Keepalive => Step::RestartHold,
        Input::Update => Step::TakeUpdate,
        Input::Refresh => Step::AnswerRefresh,
        Input::KeepaliveExpired => Step::SendKeepalive,
        Input::Start | Input::StartPassive | Input::TcpUp => Step::Ignore,
        Input::Stop
        | Input::PathDown
        | Input::HeaderInvalid
        | Input::CollisionLost
        | Input::UpdateInvalid
        | Input::RefreshInvalid => Step::Close(Farewell::Given),
        Input::HoldExpired => Step::Close(Farewell::HoldTimer),
        Input::SendHoldExpired => Step::Close(Farewell::SendHoldTimer),
        Input::TcpDown | Input::Notification => Step::Close(Farewell::Silent),
        Input::ConnectRetryExpired | Input::Open | Input::OpenInvalid => {
            Step::Close(Farewell::Unexpected(fsm_error::ESTABLISHED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [PeerState; 6] = [
        PeerState::Idle,
        PeerState::Connect,
        PeerState::Active,
        PeerState::OpenSent,
        PeerState::OpenConfirm,
        PeerState::Established,
    ];

    const NO: Step = Step::Ignore;
    const QUIET: Step = Step::Close(Farewell::Silent);
    const GIVEN: Step = Step::Close(Farewell::Given);
    const HOLD: Step = Step::Close(Farewell::HoldTimer);
    const SEND_HOLD: Step = Step::Close(Farewell::SendHoldTimer);
    const FSM_1: Step = Step::Close(Farewell::Unexpected(1));
    const FSM_2: Step = Step::Close(Farewell::Unexpected(2));
    const FSM_3: Step = Step::Close(Farewell::Unexpected(3));

    /// One row per input, one column per state in the order of `STATES`.
    #[rustfmt::skip]
    const TABLE: [(Input, [Step; 6]); 20] = {
        use Input::*;
        use Step::*;
        [
            (Start,               [Dial, NO,       NO,       NO,      NO,            NO]),
            (StartPassive,        [Wait, NO,       NO,       NO,      NO,            NO]),
            (Stop,                [NO,   QUIET,    QUIET,    GIVEN,   GIVEN,         GIVEN]),
            (PathDown,            [NO,   NO,       NO,       GIVEN,   GIVEN,         GIVEN]),
            (ConnectRetryExpired, [NO,   Dial,     Dial,     FSM_1,   FSM_2,         FSM_3]),
            (HoldExpired,         [NO,   QUIET,    QUIET,    HOLD,    HOLD,          HOLD]),
            (KeepaliveExpired,    [NO,   QUIET,    QUIET,    FSM_1,   SendKeepalive, SendKeepalive]),
            (TcpUp,               [NO,   SendOpen, SendOpen, NO,      NO,            NO]),
            (TcpDown,             [NO,   Wait,     Wait,     Wait,    QUIET,         QUIET]),
            (Open,                [NO,   QUIET,    QUIET,    Confirm, FSM_2,         FSM_3]),
            (HeaderInvalid,       [NO,   QUIET,    QUIET,    GIVEN,   GIVEN,         GIVEN]),
            (OpenInvalid,         [NO,   QUIET,    QUIET,    GIVEN,   GIVEN,         FSM_3]),
            (CollisionLost,       [NO,   QUIET,    QUIET,    GIVEN,   GIVEN,         GIVEN]),
            (Notification,        [NO,   QUIET,    QUIET,    QUIET,   QUIET,         QUIET]),
            (Keepalive,           [NO,   QUIET,    QUIET,    FSM_1,   Establish,     RestartHold]),
            (Update,              [NO,   QUIET,    QUIET,    FSM_1,   FSM_2,         TakeUpdate]),
            (UpdateInvalid,       [NO,   QUIET,    QUIET,    FSM_1,   FSM_2,         GIVEN]),
            (SendHoldExpired,     [NO,   QUIET,    QUIET,    SEND_HOLD, SEND_HOLD,   SEND_HOLD]),
            (Refresh,             [NO,   QUIET,    QUIET,    FSM_1,   FSM_2,         AnswerRefresh]),
            (RefreshInvalid,      [NO,   QUIET,    QUIET,    FSM_1,   FSM_2,         GIVEN]),
        ]
    };

    #[test]
    fn every_input_in_every_state_does_what_the_table_says() {
        for (row, (input, steps)) in TABLE.into_iter().enumerate() {
            assert_eq!(input as usize, row, "the table has a row for each input, in their order");
            for (state, expected) in STATES.into_iter().zip(steps) {
                assert_eq!(step(state, input), expected, "{input:?} in {state}");
            }
        }
        assert_eq!(TABLE.len(), Input::RefreshInvalid as usize + 1);
    }

    /// The events of RFC 4271 §8.1 (and 29 of RFC 9687) by their numbers, and what they are here.
    #[rustfmt::skip]
    const EVENTS: [(u8, Option<Input>); 29] = {
        use Input::*;
        [
            (1, Some(Start)), (2, Some(Stop)),
            // Started by its configuration, a peer needs no AutomaticStart; damping is IdleHoldTimer's, event 13.
            (3, None), (4, Some(StartPassive)), (5, None), (6, None), (7, None), (8, Some(Stop)),
            (9, Some(ConnectRetryExpired)), (10, Some(HoldExpired)), (11, Some(KeepaliveExpired)),
            // DelayOpen is off.
            (12, None), (13, Some(Start)),
            // TCP connections in progress are the kernel's, and strangers' never get here.
            (14, None), (15, None), (16, Some(TcpUp)), (17, Some(TcpUp)), (18, Some(TcpDown)), (19, Some(Open)),
            // DelayOpen is off.
            (20, None), (21, Some(HeaderInvalid)), (22, Some(OpenInvalid)), (23, Some(CollisionLost)),
            (24, Some(Notification)), (25, Some(Notification)), (26, Some(Keepalive)), (27, Some(Update)),
            (28, Some(UpdateInvalid)), (29, Some(SendHoldExpired)),
        ]
    };

    #[test]
    fn every_event_of_the_rfc_is_an_input_or_belongs_to_an_option_that_is_off() {
        for (index, (number, _)) in EVENTS.into_iter().enumerate() {
            assert_eq!(usize::from(number), index + 1);
        }
        let beyond_the_rfc = [Input::PathDown, Input::Refresh, Input::RefreshInvalid];
        for (input, _) in TABLE {
            let is_an_event = EVENTS.into_iter().any(|(_, event)| event == Some(input));
            assert_ne!(is_an_event, beyond_the_rfc.contains(&input), "{input:?}");
        }
    }

    #[test]
    fn the_table_is_the_one_that_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bgp-conformance.md");
        let document = std::fs::read_to_string(path).unwrap();
        for (input, steps) in TABLE {
            let cells: Vec<String> = steps.into_iter().map(cell).collect();
            let row = format!("| {input:?} | {} |", cells.join(" | "));
            assert!(document.contains(&row), "docs/bgp-conformance.md has no row\n{row}");
        }
    }

    fn cell(step: Step) -> String {
        match step {
            Step::Ignore => "–".to_owned(),
            Step::Close(Farewell::Silent) => "Idle".to_owned(),
            Step::Close(Farewell::Given) => "Idle, its NOTIFICATION".to_owned(),
            Step::Close(Farewell::HoldTimer) => "Idle, 4/0".to_owned(),
            Step::Close(Farewell::SendHoldTimer) => "Idle, reset".to_owned(),
            Step::Close(Farewell::Unexpected(subcode)) => format!("Idle, 5/{subcode}"),
            Step::Dial => "dial: Connect".to_owned(),
            Step::Wait => "Active".to_owned(),
            Step::SendOpen => "OPEN: OpenSent".to_owned(),
            Step::Confirm => "KEEPALIVE: OpenConfirm".to_owned(),
            Step::Establish => "Established".to_owned(),
            Step::RestartHold => "restart hold timer".to_owned(),
            Step::SendKeepalive => "KEEPALIVE".to_owned(),
            Step::TakeUpdate => "count, restart hold timer".to_owned(),
            Step::AnswerRefresh => "send all again".to_owned(),
        }
    }
}
