//! The transition table of one connection (RFC 4271 §8.2.2): what an input means in a state. Data, nothing else.
//!
//! Left out are the options we do not have (DelayOpen, unconfigured peers, tracking of TCP connections in progress).
//! Where it departs from the text: a NOTIFICATION is never answered with one (OpenSent, event 25), an unsuccessful dial
//! keeps listening (Connect and Active, event 18: to Active as with DelayOpen, not to Idle), and a bad header has its own
//! code in every state (Established, event 21; §6.1).

use crate::status::PeerState;
use crate::wire::fsm_error;

/// The events of RFC 4271 §8.1 that apply, RFC 9687's, and those of ROUTE-REFRESH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// 1 ManualStart, 13 IdleHoldTimer_Expires.
    Start,
    /// 4 ManualStart_with_PassiveTcpEstablishment.
    StartPassive,
    /// 2 ManualStop, 8 AutomaticStop.
    Stop,
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
        Input::Start | Input::StartPassive => Step::Ignore,
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
        Input::Stop | Input::HeaderInvalid | Input::OpenInvalid | Input::CollisionLost => {
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
        Input::Stop | Input::HeaderInvalid | Input::OpenInvalid | Input::CollisionLost => {
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
