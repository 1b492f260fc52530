//! [`Config`] as text: the long form, every key written out, which parses back to an equal [`Config`].

use crate::model::Config;

/// The long form of `config`.
pub fn expand(config: &Config) -> String {
    let _ = config;
    String::new()
}
