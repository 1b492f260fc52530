//! Backends by name: what their names have been resolved to, asked again and again.
//!
//! [`Names`] is pure: it keeps the last answers and puts them into a configuration. [`resolve`] asks the system's resolver,
//! and so whatever the host is set up with. An answer that is another address makes another backend of it: it is checked
//! before it gets traffic. No answer keeps the last one.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::{BackendAddr, Config};

/// Between questions. The system's resolver tells nothing of an answer's lifetime.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<Arc<str>, IpAddr>);

impl Names {
    /// The names of a configuration's backends, each once.
    pub fn wanted(config: &Config) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = config
            .services
            .iter()
            .flat_map(|service| &service.backends)
            .filter_map(|backend| match &backend.address {
                BackendAddr::Name { host, .. } => Some(Arc::clone(host)),
                BackendAddr::Ip(_) | BackendAddr::ClientPort(_) | BackendAddr::Unix(_) => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Takes an answer: whether it changes anything. The address that is in use stays as long as it is among them, so that
    /// an answer in another order moves nothing.
    pub fn learn(&mut self, name: &Arc<str>, answer: &[IpAddr]) -> bool {
        let (Some(first), current) = (answer.first(), self.0.get(name)) else { return false };
        if current.is_some_and(|current| answer.contains(current)) {
            return false;
        }
        self.0.insert(Arc::clone(name), *first);
        true
    }

    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The configuration with the answers in it.
    pub fn fill_in(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for backend in config.services.iter_mut().flat_map(|service| &mut service.backends) {
            if let BackendAddr::Name { host, answer, .. } = &mut backend.address {
                *answer = self.0.get(host).copied();
            }
        }
        config
    }
}

/// Asks for every name at once.
pub async fn resolve(names: Vec<Arc<str>>) -> Vec<(Arc<str>, Vec<IpAddr>)> {
    let questions = names.into_iter().map(|name| async move {
        let question = async { Ok(tokio::net::lookup_host((&*name, 0)).await?.map(|a| a.ip()).collect()) };
        let answer: Result<io::Result<Vec<IpAddr>>, _> = tokio::time::timeout(PATIENCE, question).await;
        let addresses = match answer {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tracing::warn!(%name, %error, "a backend's name cannot be resolved: what was known stays");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(%name, "no answer about a backend's name: what was known stays");
                Vec::new()
            }
        };
        (name, addresses)
    });
    futures_util::future::join_all(questions).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[[service]]\nname = \"api\"\nlisten = [\"127.0.0.1:1\"]\n\
                    [[service.backend]]\naddress = \"app.example.org:80\"\n\
                    [[service.backend]]\nname = \"again\"\naddress = \"app.example.org:81\"\n\
                    [[service.backend]]\naddress = \"192.0.2.9:80\"\n";
        config::parse(text, "test").map_err(|problems| problems.render(false)).unwrap().config
    }

    fn addresses(config: &Config) -> Vec<String> {
        config.services[0].backends.iter().map(|backend| backend.address.to_string()).collect()
    }

    #[test]
    fn answers_stand_beside_the_names_and_addresses_stay_what_they_are() {
        let (config, mut names) = (config(), Names::default());
        let wanted = Names::wanted(&config);
        assert_eq!(wanted.iter().map(|name| &**name).collect::<Vec<_>>(), ["app.example.org"]);
        assert_eq!(names.fill_in(&config), config);
        assert!(names.learn(&wanted[0], &["192.0.2.1".parse().unwrap()]));
        let expected = ["app.example.org:80 (192.0.2.1)", "app.example.org:81 (192.0.2.1)", "192.0.2.9:80"];
        assert_eq!(addresses(&names.fill_in(&config)), expected);
    }

    #[test]
    fn an_address_stays_while_it_is_among_the_answers_and_when_there_is_none() {
        let (mut names, name) = (Names::default(), Arc::<str>::from("app.example.org"));
        let [one, two, three] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        assert!(names.learn(&name, &[one, two]));
        assert!(!names.learn(&name, &[two, one]), "another order");
        assert!(!names.learn(&name, &[]), "no answer");
        assert!(names.learn(&name, &[three, two]), "it is gone");
    }

    #[tokio::test]
    async fn the_system_resolves_localhost_and_what_is_no_name_has_no_answer() {
        let answers = resolve(vec!["localhost".into(), "no-such-name.invalid".into()]).await;
        assert!(answers[0].1.iter().all(IpAddr::is_loopback) && !answers[0].1.is_empty());
        assert!(answers[1].1.is_empty());
    }
}
