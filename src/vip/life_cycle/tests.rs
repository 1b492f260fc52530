use config::Name;
use proptest::prelude::*;

use super::*;

const DELAY: Duration = Duration::from_secs(5);

#[allow(clippy::disallowed_methods, reason = "std offers no other way to make an Instant")]
fn start() -> Instant {
    Instant::now()
}

fn vip(on_short: OnShort, on_all_down: OnAllDown) -> Vip {
    let text = r#"
        [bgp]
        router_id = "10.0.0.1"
        [[vip]]
        address = "10.84.13.100"
        [[service]]
        name = "contrail-api"
        vip = "10.84.13.100"
        ports = [8082]
        [[service.backend]]
        address = "10.84.14.1:8082"
    "#;
    let parsed = config::parse(text, "test").map_err(|problems| problems.render(false));
    let mut config = parsed.unwrap().config;
    Vip { on_short, on_all_down, announce_delay: DELAY, flap: NO_FLAP, ..config.vips.remove(0) }
}

/// Nothing is held back.
const NO_FLAP: Flap = Flap { half_life: Duration::from_secs(60), max_delay: Duration::ZERO };

fn services() -> Vec<Name> {
    vec![Name::new("contrail-api").unwrap()]
}
fn short() -> VipHealth {
    VipHealth::Short { services: services() }
}
fn all_down() -> VipHealth {
    VipHealth::AllDown { services: services() }
}
fn stale() -> VipHealth {
    VipHealth::Stale { services: services() }
}
fn pending() -> VipHealth {
    VipHealth::Pending { services: services(), short: Vec::new() }
}
fn pending_and_short() -> VipHealth {
    VipHealth::Pending { services: services(), short: services() }
}

/// A life cycle with a clock.
struct Host {
    vip: LifeCycle,
    now: Instant,
}

impl Host {
    fn new(on_short: OnShort, on_all_down: OnAllDown) -> Self {
        Host { vip: LifeCycle::new(&vip(on_short, on_all_down)), now: start() }
    }
    fn listening(on_short: OnShort, on_all_down: OnAllDown) -> Self {
        let mut host = Host::new(on_short, on_all_down);
        host.give([Input::AddressReady, Input::ListenersReady]);
        host
    }
    fn announced(on_short: OnShort, on_all_down: OnAllDown) -> Self {
        let mut host = Host::listening(on_short, on_all_down);
        host.health(VipHealth::Healthy);
        host.wait(DELAY);
        assert_eq!(host.vip.phase(), Phase::Announced);
        host
    }
    fn give(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.vip.handle(input, self.now);
        }
    }
    fn health(&mut self, health: VipHealth) {
        self.give([Input::Health(health)]);
    }
    /// Lets time pass and timers fire when they are due.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.vip.poll_timeout().filter(|&due| due <= end) {
            assert!(due >= self.now, "a timer in the past would spin");
            self.now = due;
            self.vip.handle_timeout(due);
            assert!(self.vip.poll_timeout().is_none_or(|next| next > due), "a timer that fired is gone");
        }
        self.now = end;
    }
}

const ALMOST: Duration = Duration::from_millis(4_999);
const REST: Duration = Duration::from_millis(1);

#[test]
fn a_healthy_vip_is_announced_after_announce_delay_and_not_before() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(VipHealth::Healthy);
    assert_eq!(host.vip.waiting_until(), Some(host.now + DELAY));
    host.wait(ALMOST);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Listening, Desire::Withdrawn));
    host.wait(REST);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Announced, Desire::Normal));
    assert_eq!(host.vip.waiting_until(), None);
}

#[test]
fn health_before_the_listeners_accept_announces_nothing_and_counts_from_there() {
    let mut host = Host::new(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(VipHealth::Healthy);
    host.wait(DELAY * 2);
    host.give([Input::AddressReady]);
    host.wait(DELAY * 2);
    host.give([Input::ListenersReady]);
    host.wait(ALMOST);
    assert_eq!(host.vip.desire(), Desire::Withdrawn);
    host.wait(REST);
    assert_eq!(host.vip.desire(), Desire::Normal);
}

#[test]
fn without_a_delay_it_is_announced_at_once() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Withdraw);
    let at_once = Vip { announce_delay: Duration::ZERO, ..vip(OnShort::Degrade, OnAllDown::Withdraw) };
    host.vip.set_policy(&at_once, host.now);
    host.health(VipHealth::Healthy);
    assert_eq!(host.vip.phase(), Phase::Announced);
}

#[test]
fn a_break_in_health_starts_the_delay_again() {
    let mut host = Host::listening(OnShort::Withdraw, OnAllDown::Withdraw);
    host.health(VipHealth::Healthy);
    host.wait(ALMOST);
    host.health(short());
    host.health(VipHealth::Healthy);
    host.wait(ALMOST);
    assert_eq!(host.vip.desire(), Desire::Withdrawn);
}

#[test]
fn short_degrades_at_once_and_normal_must_be_earned_again() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(short());
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Degraded, Desire::Degraded));
    host.health(VipHealth::Healthy);
    host.wait(ALMOST);
    assert_eq!(host.vip.desire(), Desire::Degraded);
    host.wait(REST);
    assert_eq!(host.vip.desire(), Desire::Normal);
}

#[test]
fn each_level_is_earned_on_its_own() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(short());
    host.wait(Duration::from_secs(4));
    host.health(VipHealth::Healthy);
    host.wait(Duration::from_secs(1));
    assert_eq!(host.vip.desire(), Desire::Degraded, "fit to be degraded for 5 s, to be normal for 1 s");
    host.wait(Duration::from_secs(4));
    assert_eq!(host.vip.desire(), Desire::Normal);
}

#[test]
fn short_withdraws_where_the_policy_says_so_and_keeps_address_and_listeners() {
    let mut host = Host::announced(OnShort::Withdraw, OnAllDown::Withdraw);
    host.health(short());
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Listening, Desire::Withdrawn));
}

#[test]
fn all_down_follows_its_policy() {
    for (policy, expected) in [
        (OnAllDown::Withdraw, (Phase::Listening, Desire::Withdrawn)),
        (OnAllDown::LastResort, (Phase::LastResort, Desire::LastResort)),
        (OnAllDown::Hold, (Phase::Announced, Desire::Normal)),
    ] {
        let mut host = Host::announced(OnShort::Degrade, policy);
        host.health(all_down());
        assert_eq!((host.vip.phase(), host.vip.desire()), expected);
        host.wait(DELAY * 2);
        assert_eq!((host.vip.phase(), host.vip.desire()), expected);
    }
}

#[test]
fn hold_keeps_what_was_announced_and_announces_nothing_by_itself() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Hold);
    host.health(all_down());
    host.wait(DELAY * 2);
    assert_eq!(host.vip.desire(), Desire::Withdrawn);

    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Hold);
    host.health(short());
    host.health(all_down());
    host.wait(DELAY * 2);
    assert_eq!(host.vip.desire(), Desire::Degraded);
}

#[test]
fn stale_health_withdraws_under_every_policy() {
    for policy in [OnAllDown::Withdraw, OnAllDown::LastResort, OnAllDown::Hold] {
        let mut host = Host::announced(OnShort::Degrade, policy);
        host.health(stale());
        assert_eq!(host.vip.desire(), Desire::Withdrawn);
    }
}

#[test]
fn nothing_is_announced_while_a_service_is_unchecked() {
    for unchecked in [pending(), pending_and_short()] {
        let mut host = Host::listening(OnShort::Degrade, OnAllDown::LastResort);
        host.health(unchecked);
        host.wait(DELAY * 2);
        assert_eq!(host.vip.desire(), Desire::Withdrawn);
    }
}

#[test]
fn a_service_added_by_a_reload_leaves_the_route_alone_until_it_is_checked() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(pending());
    assert_eq!(host.vip.desire(), Desire::Normal);
    host.health(pending_and_short());
    assert_eq!(host.vip.desire(), Desire::Degraded, "another service is known to be short");
    host.health(VipHealth::Healthy);
    host.health(pending());
    host.wait(DELAY * 2);
    assert_eq!(host.vip.desire(), Desire::Degraded, "nothing is raised meanwhile");
}

#[test]
fn a_new_policy_takes_effect_with_the_next_word_on_health() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(short());
    host.vip.set_policy(&vip(OnShort::Withdraw, OnAllDown::Withdraw), host.now);
    assert_eq!(host.vip.desire(), Desire::Degraded);
    host.health(short());
    assert_eq!(host.vip.desire(), Desire::Withdrawn);
}

#[test]
fn a_drain_goes_through_every_phase_in_order() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Holding, Desire::Normal), "the route waits");
    host.give([Input::DoorHeld]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Draining, Desire::Draining));
    for (input, expected) in [
        (Input::TrafficShifted, Phase::Withdrawn),
        (Input::WithdrawAcked, Phase::Withdrawn),
        (Input::TrafficEnded, Phase::Quiet),
        (Input::ConnectionsClosed, Phase::Closed),
        (Input::AddressGone, Phase::AddressDown),
    ] {
        host.give([input]);
        assert_eq!((host.vip.phase(), host.vip.desire()), (expected, Desire::Withdrawn));
    }
}

#[test]
fn traffic_cannot_end_before_the_peers_have_the_withdrawal() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain, Input::DoorHeld, Input::TrafficShifted, Input::TrafficEnded]);
    assert_eq!(host.vip.phase(), Phase::Withdrawn);
}

#[test]
fn what_is_not_announced_is_drained_without_being_announced() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Withdrawn, Desire::Withdrawn));
}

#[test]
fn a_vip_wanted_again_before_its_withdrawal_is_announced_as_it_was() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain]);
    host.wait(DELAY);
    host.give([Input::Undrain, Input::TrafficShifted]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Announced, Desire::Normal));
}

#[test]
fn health_that_withdraws_does_so_while_draining_too() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain, Input::DoorHeld]);
    host.health(short());
    assert_eq!(host.vip.desire(), Desire::Draining, "it is the worst route there is already");
    host.health(all_down());
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Withdrawn, Desire::Withdrawn));
}

#[test]
fn an_address_that_vanishes_ends_the_soft_part_of_a_drain() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::Drain, Input::AddressGone]);
    assert_eq!(host.vip.phase(), Phase::Withdrawn);
}

#[test]
fn a_vip_that_comes_and_goes_is_held_back_longer_each_time_until_it_is_released() {
    let mut host = Host::announced(OnShort::Withdraw, OnAllDown::Withdraw);
    let flap = Flap { half_life: Duration::from_secs(3600), max_delay: Duration::from_secs(60) };
    host.vip.set_policy(&Vip { flap, ..vip(OnShort::Withdraw, OnAllDown::Withdraw) }, host.now);
    let mut times = Vec::new();
    for _ in 0..6 {
        host.health(short());
        assert_eq!(host.vip.desire(), Desire::Withdrawn, "down at once, always");
        host.health(VipHealth::Healthy);
        let since = host.now;
        host.wait(host.vip.waiting_until().unwrap() - host.now);
        assert_eq!(host.vip.desire(), Desire::Normal);
        times.push((host.now - since).as_secs());
    }
    assert_eq!(times, [5, 9, 19, 39, 60, 60]);
    host.health(short());
    host.health(VipHealth::Healthy);
    assert!(host.vip.held_back().is_some());
    host.wait(DELAY);
    assert_eq!(host.vip.desire(), Desire::Withdrawn);
    host.vip.release(host.now);
    assert_eq!((host.vip.desire(), host.vip.held_back()), (Desire::Normal, None));
}

#[test]
fn a_draining_vip_is_never_announced_again_however_healthy() {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Withdraw);
    host.health(VipHealth::Healthy);
    host.give([Input::Drain]);
    host.wait(DELAY * 2);
    assert_eq!((host.vip.phase(), host.vip.poll_timeout()), (Phase::Withdrawn, None));
}

#[test]
fn a_vip_wanted_again_comes_up_from_the_start_and_late_answers_do_not_take_it_down() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([
        Input::Drain,
        Input::DoorHeld,
        Input::TrafficShifted,
        Input::WithdrawAcked,
        Input::TrafficEnded,
        Input::Undrain,
    ]);
    assert_eq!(host.vip.phase(), Phase::Init);
    host.give([Input::AddressReady, Input::ListenersReady, Input::ConnectionsClosed]);
    host.wait(DELAY);
    assert_eq!(host.vip.phase(), Phase::Announced);
}

#[test]
fn an_address_that_vanishes_withdraws_and_comes_up_from_the_start() {
    let mut host = Host::announced(OnShort::Degrade, OnAllDown::Withdraw);
    host.give([Input::AddressGone]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Init, Desire::Withdrawn));
    host.give([Input::AddressReady, Input::ListenersReady]);
    host.wait(ALMOST);
    assert_eq!(host.vip.desire(), Desire::Withdrawn);
    host.wait(REST);
    assert_eq!(host.vip.desire(), Desire::Normal);
}

#[test]
fn one_trouble_that_takes_the_route_down_step_by_step_is_one_flap() {
    let flap = Flap { max_delay: Duration::from_secs(120), ..NO_FLAP };
    let policy = Vip { flap, ..vip(OnShort::Degrade, OnAllDown::LastResort) };
    let mut host = Host { vip: LifeCycle::new(&policy), now: start() };
    host.give([Input::AddressReady, Input::ListenersReady, Input::Health(VipHealth::Healthy)]);
    host.wait(DELAY);
    // As the results of its backends grow stale one after the other.
    for health in [short(), all_down(), stale()] {
        host.health(health);
    }
    assert_eq!(host.vip.held_back(), None, "the first time costs nothing");
    host.health(VipHealth::Healthy);
    host.wait(DELAY);
    assert_eq!(host.vip.phase(), Phase::Announced);
    host.health(short());
    assert!(host.vip.held_back().is_some(), "the second does");
}

/// Healthy for long enough, and there are fellow hosts.
fn arriving() -> Host {
    let mut host = Host::listening(OnShort::Degrade, OnAllDown::Hold);
    host.vip.set_fellows(true, None);
    host.health(VipHealth::Healthy);
    host.wait(DELAY);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Arriving, Desire::Arriving));
    host
}

#[test]
fn where_there_are_fellow_hosts_they_are_told_before_the_routers_are() {
    let mut host = arriving();
    host.wait(DELAY);
    assert_eq!(host.vip.phase(), Phase::Arriving, "it waits for them");
    host.give([Input::FellowsTold]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Announced, Desire::Normal));
    host.health(short());
    host.health(VipHealth::Healthy);
    host.wait(DELAY);
    assert_eq!(host.vip.phase(), Phase::Announced, "whoever is announced already does not arrive");
}

#[test]
fn a_vip_that_is_no_longer_fit_while_it_arrives_is_not_announced() {
    for health in [all_down(), stale(), pending(), pending_and_short()] {
        let mut host = arriving();
        host.health(health.clone());
        host.give([Input::FellowsTold]);
        assert_eq!(
            (host.vip.phase(), host.vip.desire()),
            (Phase::Listening, Desire::Withdrawn),
            "{health:?}"
        );
        assert_eq!(host.vip.held_back(), None, "it was not announced: that is no flap");
    }
    let mut host = arriving();
    host.health(short());
    host.give([Input::FellowsTold]);
    assert_eq!(host.vip.phase(), Phase::Degraded);
}

#[test]
fn a_vip_that_arrives_can_be_drained_and_can_lose_its_address() {
    let mut host = arriving();
    host.give([Input::Drain, Input::FellowsTold]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Withdrawn, Desire::Withdrawn));
    let mut host = arriving();
    host.give([Input::AddressGone, Input::FellowsTold]);
    assert_eq!((host.vip.phase(), host.vip.desire()), (Phase::Init, Desire::Withdrawn));
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => prop_oneof![
            5 => Just(VipHealth::Healthy),
            1 => Just(short()),
            1 => Just(all_down()),
            1 => Just(stale()),
            1 => Just(pending()),
            1 => Just(pending_and_short()),
        ].prop_map(Input::Health),
        3 => Just(Input::AddressReady),
        3 => Just(Input::ListenersReady),
        1 => Just(Input::Drain),
        1 => Just(Input::Undrain),
        2 => Just(Input::FellowsTold),
        1 => Just(Input::DoorHeld),
        1 => Just(Input::TrafficShifted),
        1 => Just(Input::WithdrawAcked),
        1 => Just(Input::TrafficEnded),
        1 => Just(Input::ConnectionsClosed),
        1 => Just(Input::AddressGone),
    ]
}

fn policies() -> impl Strategy<Value = Vip> {
    (
        prop_oneof![Just(OnShort::Degrade), Just(OnShort::Withdraw)],
        prop_oneof![Just(OnAllDown::Withdraw), Just(OnAllDown::LastResort), Just(OnAllDown::Hold)],
    )
        .prop_map(|(on_short, on_all_down)| vip(on_short, on_all_down))
}

fn may_follow(from: Phase, to: Phase) -> bool {
    use Phase::*;
    let serving = |phase| matches!(phase, Listening | Announced | Degraded | LastResort);
    match (from, to) {
        (Init, AddressUp) | (Withdrawn, Quiet) | (Quiet, Closed) | (Closed, AddressDown) => true,
        (Listening, Arriving) | (Arriving, Init | Withdrawn) => true,
        (Arriving, to) => serving(to),
        (AddressUp, Listening) | (Announced | Degraded | LastResort, Holding) => true,
        (Holding, Draining) => true,
        (from, Init) => matches!(from, AddressUp | Withdrawn | Quiet | AddressDown) || serving(from),
        (from, Withdrawn) => matches!(from, Init | AddressUp | Listening | Holding | Draining),
        (Holding | Draining, to) => serving(to),
        (from, to) => serving(from) && serving(to),
    }
}

/// What must be true of the outside for a route to be raised, kept apart from the code under test.
struct Outside {
    address: bool,
    listeners: bool,
    draining: bool,
    /// The door is held, and the route as before.
    holding: bool,
    is_withdrawn: bool,
    /// Since when address, listeners and full health have been there together.
    whole_since: Option<Instant>,
    health: VipHealth,
}

impl Outside {
    fn note(&mut self, input: &Input, phase: Phase, now: Instant) {
        match input {
            Input::AddressReady if phase == Phase::Init => self.address = true,
            Input::ListenersReady if phase == Phase::AddressUp => self.listeners = true,
            Input::AddressGone if matches!(phase, Phase::Holding | Phase::Draining) => {
                self.is_withdrawn = true
            }
            Input::TrafficShifted if phase == Phase::Draining => self.is_withdrawn = true,
            Input::AddressGone => (self.address, self.listeners) = (false, false),
            Input::Drain
                if matches!(phase, Phase::Init | Phase::AddressUp | Phase::Listening | Phase::Arriving) =>
            {
                (self.draining, self.is_withdrawn) = (true, true);
            }
            Input::Drain if !self.draining => (self.draining, self.holding) = (true, true),
            Input::Undrain if matches!(phase, Phase::Holding | Phase::Draining) => {
                (self.draining, self.holding) = (false, false);
            }
            Input::DoorHeld => self.holding = false,
            Input::Undrain if matches!(phase, Phase::Withdrawn | Phase::Quiet | Phase::AddressDown) => {
                (self.draining, self.is_withdrawn) = (false, false);
                (self.address, self.listeners) = (false, false);
            }
            Input::Health(health) => self.health = health.clone(),
            _ => {}
        }
        let whole = self.address && self.listeners && !self.is_withdrawn && self.health == VipHealth::Healthy;
        self.whole_since = whole.then(|| self.whole_since.unwrap_or(now));
    }

    fn check(&self, before: Desire, after: &LifeCycle, now: Instant) -> Result<(), TestCaseError> {
        let desire = after.desire();
        prop_assert!(!self.draining || self.holding || desire <= Desire::Draining);
        if desire != Desire::Withdrawn {
            prop_assert!(self.address && self.listeners && !self.is_withdrawn);
            prop_assert_ne!(&self.health, &stale());
        }
        if desire > before && before != Desire::Draining {
            prop_assert_ne!(&self.health, &pending());
            prop_assert_ne!(&self.health, &pending_and_short());
        }
        // Out of a drain it goes back to what it was.
        if desire == Desire::Normal && before < Desire::Normal && before != Desire::Draining {
            prop_assert!(self.whole_since.is_some_and(|since| now - since >= DELAY));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_inputs_breaks_the_order_or_announces_too_early(
        policy in policies(),
        has_fellows in any::<bool>(),
        steps in proptest::collection::vec((inputs(), 0u64..4_000), 1..120),
    ) {
        let mut host = Host { vip: LifeCycle::new(&policy), now: start() };
        host.vip.set_fellows(has_fellows, None);
        let mut outside = Outside {
            address: false, listeners: false, draining: false, holding: false, is_withdrawn: false, whole_since: None, health: pending(),
        };
        for (input, wait_ms) in steps {
            let (phase, desire) = (host.vip.phase(), host.vip.desire());
            outside.note(&input, phase, host.now);
            host.give([input]);
            let after = host.vip.phase();
            prop_assert!(phase == after || may_follow(phase, after), "{:?} to {:?}", phase, after);
            outside.check(desire, &host.vip, host.now)?;

            let before = host.vip.desire();
            host.wait(Duration::from_millis(wait_ms));
            outside.check(before, &host.vip, host.now)?;
        }
    }

    #[test]
    fn a_vip_that_stays_healthy_is_announced_within_the_delay(
        policy in policies(),
        before in proptest::collection::vec((inputs(), 0u64..4_000), 0..40),
    ) {
        let mut host = Host::listening(policy.on_short, policy.on_all_down);
        for (input, wait_ms) in before {
            if matches!(input, Input::Health(_)) {
                host.give([input]);
                host.wait(Duration::from_millis(wait_ms));
            }
        }
        host.health(VipHealth::Healthy);
        host.wait(DELAY);
        prop_assert_eq!(host.vip.desire(), Desire::Normal);
    }
}
