//! HAProxy's agent protocol: a line of words from a backend about itself, and the layer of state they add up to. Pure.
//!
//! The line ends at CR, LF or the end of the stream. Its words stand apart by spaces, tabs or commas, in any order, in any
//! case: `up` · `down`, `fail`, `failed`, `stopped` · `ready`, `drain`, `maint` · `75%` of the configured weight ·
//! `maxconn:30`. From `#` on it is a description for humans. What a reply does not mention stays as it was: only the
//! agent takes back what it has said.
#![deny(clippy::disallowed_methods)]

/// The longest line that is looked at, in octets.
pub(crate) const MAX_REPLY: usize = 1024;
/// HAProxy's: 256 times the weight 1, the most that any weight can become.
const MAX_PERCENT: u16 = 25_600;

/// What an agent said in one reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub condition: Option<Condition>,
    pub admin: Option<AgentAdmin>,
    /// Of the configured weight.
    pub weight_percent: Option<u16>,
    /// 0: no limit.
    pub max_connections: Option<u32>,
}

/// Whether the backend works, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    Up,
    Down,
    Failed,
    Stopped,
}

/// What the agent wants done with its backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum AgentAdmin {
    #[default]
    Ready,
    /// No new connection; established ones live on.
    Drain,
    /// The same to new connections; its checks go on, since only the agent can end it.
    Maint,
}

impl Condition {
    /// A word for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Down => "down",
            Condition::Failed => "failed",
            Condition::Stopped => "stopped",
        }
    }
}

impl AgentAdmin {
    /// A word for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentAdmin::Ready => "ready",
            AgentAdmin::Drain => "drain",
            AgentAdmin::Maint => "maint",
        }
    }

    pub fn is_ready(self) -> bool {
        self == AgentAdmin::Ready
    }
}

/// The agent's layer of a backend's state: everything it has said so far. It stands beside configuration and operators'
/// commands, and never overwrites them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agent {
    /// Of the configured weight; `None`: it never said.
    pub weight_percent: Option<u16>,
    /// `None`: it never said; 0: no limit.
    pub max_connections: Option<u32>,
    pub admin: AgentAdmin,
    pub condition: Option<Condition>,
}

impl Agent {
    /// Whether the agent lets its backend have new connections.
    pub fn takes_traffic(&self) -> bool {
        self.admin.is_ready() && self.weight_percent != Some(0)
    }

    pub(crate) fn take(&mut self, reply: &Reply) {
        self.weight_percent = reply.weight_percent.or(self.weight_percent);
        self.max_connections = reply.max_connections.or(self.max_connections);
        self.admin = reply.admin.unwrap_or(self.admin);
        self.condition = reply.condition.or(self.condition);
    }

    /// It has said so, and nothing else since.
    pub(crate) fn is_down(&self) -> bool {
        match self.condition {
            Some(Condition::Down | Condition::Failed | Condition::Stopped) => true,
            Some(Condition::Up) | None => false,
        }
    }
}

/// Why a reply was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("nothing but white space")]
    Empty,
    #[error("unknown word {0:?}")]
    UnknownWord(String),
}

impl Reply {
    /// Reads one reply; what comes after the end of its first line is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, AgentError> {
        let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        let words = line.split(|&b| b == b'#').next().unwrap_or_default();
        let mut reply = Reply::default();
        let mut is_empty = true;
        for word in words.split(|b| matches!(b, b' ' | b'\t' | b',')).filter(|word| !word.is_empty()) {
            is_empty = false;
            let known = std::str::from_utf8(word).is_ok_and(|word| reply.add(word));
            if !known {
                return Err(AgentError::UnknownWord(quotable(word)));
            }
        }
        if is_empty { Err(AgentError::Empty) } else { Ok(reply) }
    }

    /// Takes in one word; whether it is one.
    fn add(&mut self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "up" => self.condition = Some(Condition::Up),
            "down" => self.condition = Some(Condition::Down),
            "fail" | "failed" => self.condition = Some(Condition::Failed),
            "stopped" => self.condition = Some(Condition::Stopped),
            "ready" => self.admin = Some(AgentAdmin::Ready),
            "drain" => self.admin = Some(AgentAdmin::Drain),
            "maint" => self.admin = Some(AgentAdmin::Maint),
            number => return self.add_number(number),
        }
        true
    }

    fn add_number(&mut self, word: &str) -> bool {
        if let Some(percent) = word.strip_suffix('%').and_then(number) {
            self.weight_percent = Some(u16::try_from(percent).map_or(MAX_PERCENT, |p| p.min(MAX_PERCENT)));
            true
        } else if let Some(connections) = word.strip_prefix("maxconn:").and_then(number) {
            self.max_connections = Some(connections);
            true
        } else {
            false
        }
    }
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The first line in words for humans, short and without anything that could end a line or start an escape sequence.
pub(crate) fn quotable(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let shown = line.get(..LONGEST).unwrap_or(line);
    let dots = if shown.len() < line.len() { "…" } else { "" };
    format!("{}{dots}", shown.escape_ascii().to_string().trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(text: &str) -> Reply {
        Reply::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_word_alone_is_understood_in_any_case() {
        let condition = |c| Reply { condition: Some(c), ..Reply::default() };
        for (text, expected) in [
            ("up\n", condition(Condition::Up)),
            ("DOWN\r\n", condition(Condition::Down)),
            ("fail", condition(Condition::Failed)),
            ("failed", condition(Condition::Failed)),
            ("stopped # for the night\n", condition(Condition::Stopped)),
        ] {
            assert_eq!(says(text), expected, "{text:?}");
        }
        assert_eq!(says("drain").admin, Some(AgentAdmin::Drain));
        assert_eq!(says("Maint").admin, Some(AgentAdmin::Maint));
        assert_eq!(says("ready").admin, Some(AgentAdmin::Ready));
        assert_eq!(says("75%").weight_percent, Some(75));
        assert_eq!(says("maxconn:30").max_connections, Some(30));
    }

    #[test]
    fn words_combine_in_any_order_with_any_separator() {
        let expected = Reply {
            condition: Some(Condition::Up),
            admin: Some(AgentAdmin::Ready),
            weight_percent: Some(50),
            max_connections: Some(0),
        };
        for text in
            ["up ready 50% maxconn:0\n", "\t50%,maxconn:0, ready up#all well", "ready,UP\t50% MaxConn:0\r"]
        {
            assert_eq!(says(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_first_line_counts_and_nothing_of_its_description() {
        assert_eq!(says("up # down 10%\ndrain\n"), says("up"));
    }

    #[test]
    fn a_percentage_beyond_any_weight_is_the_most_there_is() {
        for text in ["25600%", "25601%", "65536%", "4294967295%"] {
            assert_eq!(says(text).weight_percent, Some(MAX_PERCENT), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for text in ["ok", "75", "-1%", "+5%", "%", "maxconn:", "maxconn:-1", "4294967296%", "up down2"] {
            assert!(matches!(Reply::parse(text.as_bytes()), Err(AgentError::UnknownWord(_))), "{text:?}");
        }
        assert_eq!(Reply::parse(b"up \x1b[2J").unwrap_err().to_string(), r#"unknown word "\\x1b[2J""#);
        for nothing in [&b""[..], b"\nup\n", b" \t,", b"# only a remark"] {
            assert_eq!(Reply::parse(nothing), Err(AgentError::Empty), "{nothing:?}");
        }
    }

    #[test]
    fn what_a_reply_does_not_mention_stays_as_it_was() {
        let mut agent = Agent::default();
        assert!(agent.takes_traffic());
        agent.take(&says("drain 40% down"));
        agent.take(&says("maxconn:5"));
        agent.take(&says("up"));
        assert_eq!(
            (agent.admin, agent.weight_percent, agent.max_connections),
            (AgentAdmin::Drain, Some(40), Some(5))
        );
        assert!(!agent.is_down() && !agent.takes_traffic(), "up does not end a drain");
        agent.take(&says("ready"));
        assert!(agent.takes_traffic());
        agent.take(&says("0%"));
        assert!(!agent.takes_traffic());
    }

    proptest! {
        #[test]
        fn no_octets_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            if let Err(e) = Reply::parse(&bytes) {
                prop_assert!(e.to_string().len() < 500);
                prop_assert!(!e.to_string().contains(char::is_control));
            }
        }
    }
}
