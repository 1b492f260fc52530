//! The table of scenarios and routers. Each cell is one test, `GROUP::SCENARIO::ROUTER`; a cell without one says why.

mod attributes;
mod bfd;
mod life_cycle;
mod security;
mod sessions;
mod table;
mod topologies;

/// A scenario, a function of the router, with the routers it runs with; the others follow, each with its reason.
pub struct Row {
    pub scenario: &'static str,
    pub with: &'static [&'static str],
    pub without: &'static [(&'static str, &'static str)],
}

/// Makes a group of scenarios: a test per cell, and `TABLE`.
macro_rules! scenarios {
    ($($scenario:ident: $($router:ident)+ $(, not $absent:ident $why:literal)*;)*) => {
        /// What runs where.
        pub const TABLE: &[Row] = &[$(Row {
            scenario: stringify!($scenario),
            with: &[$(stringify!($router)),+],
            without: &[$((stringify!($absent), $why)),*],
        }),*];
        $(mod $scenario {
            $(#[test] fn $router() { $crate::scenarios::on(stringify!($router), super::$scenario); })+
        })*
    };
}
use scenarios;

use crate::router::Kind;

/// Runs a scenario where it can run.
fn on(router: &str, scenario: fn(Kind)) {
    let router = Kind::ALL.into_iter().find(|kind| kind.name() == router).expect("a router's name");
    if crate::lab::can_run(router) {
        scenario(router);
    }
}
