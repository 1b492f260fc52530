//! Single values: from what TOML calls them to what the model does, or what would have been accepted. Pure.
//!
//! Each function here gives a reader: a closure from a TOML value to a `Result`. None of them knows keys or places.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::duration;
use crate::model::Rate;
use crate::types::Invalid;

mod address;

pub(crate) use self::address::*;

/// Why a value is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `None`: there is no more to say than that it is not what is expected.
    pub(crate) message: Option<String>,
    pub(crate) expected: String,
}

impl Refused {
    pub(crate) fn expected(expected: impl Into<String>) -> Self {
        Refused { message: None, expected: expected.into() }
    }

    pub(crate) fn because(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Refused { message: Some(message.into()), expected: expected.into() }
    }
}

/// Splits "why: expected what".
impl From<Invalid> for Refused {
    fn from(Invalid(text): Invalid) -> Self {
        match text.split_once(": expected ") {
            Some((why, expected)) => Refused::because(why, expected),
            None => Refused::expected(text.strip_prefix("expected ").unwrap_or(&text)),
        }
    }
}

/// `value` as a message quotes it.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The longest text that a message quotes in full.
const QUOTED: usize = 60;

/// `text` in quotes, cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}...\"", text.get(..end).unwrap_or_default()),
        None => format!("\"{text}\""),
    }
}

/// A text that `read` makes something of.
pub(crate) fn text<T>(
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| value.as_str().and_then(&read).ok_or_else(|| Refused::expected(expected))
}

/// A text that a constructor of `types.rs` checks.
pub(crate) fn typed<T>(
    read: impl Fn(&str) -> Result<T, Invalid>,
    expected: &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| {
        let text = value.as_str().ok_or_else(|| Refused::expected(expected))?;
        read(text).map_err(Refused::from)
    }
}

pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| Refused::expected("true or false"))
}

/// A whole number within `range`, which must fit `T`.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Refused>
where
    T: TryFrom<i128> + PartialOrd + Copy + Display,
{
    move |value| {
        let number = value.as_integer().and_then(|n| i128::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        number.ok_or_else(|| Refused::expected(format!("a whole number, {}..{}", range.start(), range.end())))
    }
}

/// The most that a limit of connections can be.
const COUNT: u32 = 10_000_000;

/// A number of connections; 0: no limit.
pub(crate) fn limit(value: &DeValue<'_>) -> Result<Option<u32>, Refused> {
    let count = integer(0..=COUNT)(value)?;
    Ok((count != 0).then_some(count))
}

/// So many a second or minute; `None`: 0, no limit.
pub(crate) fn rate(value: &DeValue<'_>) -> Result<Option<Rate>, Refused> {
    let read = |text: &str| {
        let (count, unit) = text.split_once('/')?;
        let is_number = count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse::<u32>().ok().filter(|count| is_number && *count <= COUNT)?;
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            _ => return None,
        };
        Some((count != 0).then_some(Rate { count, per }))
    };
    text("so many a second or minute, such as \"100/s\" or \"600/m\"; \"0/s\" for no limit", read)(value)
}

/// The most bytes of a text that a check sends or expects.
const BYTES: usize = 4096;

/// What a check sends or expects: a text, or `hex:` and pairs of hexadecimal digits.
pub(crate) fn bytes(value: &DeValue<'_>) -> Result<Vec<u8>, Refused> {
    let read = |text: &str| {
        let bytes = match text.strip_prefix("hex:") {
            Some(digits) => parse_hex(digits)?,
            None => text.as_bytes().to_vec(),
        };
        (bytes.len() <= BYTES).then_some(bytes)
    };
    text("a text of at most 4096 bytes, or such as \"hex:0d0a\"", read)(value)
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// One port, or a range of them.
pub(crate) fn ports(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Refused> {
    const EXPECTED: &str = "a port of 1..65535, or a range in quotes such as \"9000-9010\"";
    if let Some(text) = value.as_str() {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0 && !text.starts_with('+'));
        let range = text.split_once('-').and_then(|(first, last)| Some(port(first)?..=port(last)?));
        return range.filter(|range| !range.is_empty()).ok_or_else(|| Refused::expected(EXPECTED));
    }
    let port = integer(1..=u16::MAX)(value).map_err(|_| Refused::expected(EXPECTED))?;
    Ok(port..=port)
}

/// A duration within `range`.
pub(crate) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Refused> {
    move |value| {
        let read = value.as_str().and_then(duration::parse).filter(|d| range.contains(d));
        read.ok_or_else(|| {
            Refused::expected(format!("{}, {}", duration::EXPECTED, duration::format_range(&range)))
        })
    }
}

/// One of a few words. `None` stands for a word of the interface that is not built yet.
pub(crate) fn choice<T: Copy>(
    choices: &'static [(&'static str, Option<T>)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| {
        let built = choices.iter().filter(|(_, built)| built.is_some());
        let expected = built.map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        match choices.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, Some(chosen))) => Ok(*chosen),
            Some((word, None)) => Err(not_supported_yet(&format!("\"{word}\""), expected)),
            None => Err(Refused::expected(expected)),
        }
    }
}

/// `what` is part of the interface, but not built.
pub(crate) fn not_supported_yet(what: &str, expected: impl Into<String>) -> Refused {
    Refused::because(format!("{what} is not supported yet"), expected)
}

/// `""` for none, otherwise what `read` accepts.
pub(crate) fn or_empty<T>(
    read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<T>, Refused> {
    move |value| match value.as_str() {
        Some("") => Ok(None),
        _ => read(value).map(Some).map_err(|refused| Refused {
            expected: format!("{}, or \"\" for none", refused.expected),
            ..refused
        }),
    }
}

pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, Refused> {
    let fits = |text: &str| !text.is_empty() && !text.contains('\0');
    text("a path", |path| fits(path).then(|| PathBuf::from(path)))(value)
}
