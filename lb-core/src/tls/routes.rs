//! Which service a connection that is passed through goes to, by the name in its ClientHello. Pure.

use std::collections::HashMap;

use config::{Name, SniRoute};

/// One service's routes to other services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SniRoutes {
    exact: HashMap<String, Name>,
    /// By what follows the label that `*.` stands for.
    wildcard: HashMap<String, Name>,
}

impl SniRoutes {
    pub(crate) fn new(routes: &[SniRoute]) -> Self {
        let mut compiled = SniRoutes::default();
        for SniRoute { pattern, service } in routes {
            match pattern.strip_prefix("*.") {
                Some(rest) => compiled.wildcard.insert(rest.to_owned(), service.clone()),
                None => compiled.exact.insert(pattern.clone(), service.clone()),
            };
        }
        compiled
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// The service for a name in lower case: its own route, else that of the pattern for its first label. As a pattern
    /// stands for exactly one label, no two of them fit. `None`: the service that was connected to.
    pub(crate) fn find(&self, name: &str) -> Option<&Name> {
        let by_pattern = || name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest));
        self.exact.get(name).or_else(by_pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_name_goes_before_a_pattern_and_a_pattern_stands_for_one_label() {
        let route = |pattern: &str, service: &str| SniRoute {
            pattern: pattern.to_owned(),
            service: Name::new(service).unwrap(),
        };
        let routes = SniRoutes::new(&[
            route("*.example.org", "any"),
            route("api.example.org", "api"),
            route("*.eu.example.org", "eu"),
        ]);
        let found = |name| routes.find(name).map(ToString::to_string);
        assert_eq!(found("api.example.org").as_deref(), Some("api"));
        assert_eq!(found("www.example.org").as_deref(), Some("any"));
        assert_eq!(found("api.eu.example.org").as_deref(), Some("eu"));
        for name in ["a.b.eu.example.org", "example.org", "org", "", "."] {
            assert_eq!(found(name), None, "{name}");
        }
        assert!(SniRoutes::new(&[]).is_empty() && !routes.is_empty());
    }
}
