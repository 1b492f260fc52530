//! Reads one table of the file key by key. Owns what is the same for every key: wrong types, values that are refused,
//! missing and unknown keys, keys that are not built yet. Must not know any key by name.
//!
//! Why not `serde`: it stops at the first error, and an operator wants all of them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::duration;
use crate::findings::{At, Finding, Findings, Place};
use crate::schema::{Key, SECTIONS, Section, Support};
use crate::value::{Refused, quoted, shown};

/// A value of the file and where it is.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    value: &'a DeValue<'a>,
    place: Place,
}

/// A list key: the elements that could be read.
#[derive(Debug, Clone)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<At<T>>,
    /// Whether the file has at least one element, be it a refused one.
    pub(crate) is_given: bool,
    /// Whether nothing in it was refused.
    pub(crate) is_complete: bool,
    pub(crate) place: Place,
}

/// One table of the file. A table that is not there reads like an empty one.
#[derive(Debug)]
pub(crate) struct Table<'a, 'f> {
    pub(crate) findings: &'f mut Findings,
    /// Where it is: its header, or an inline table's braces.
    pub(crate) place: Place,
    entries: Option<&'a DeTable<'a>>,
    section: &'static Section,
}

impl<'a, 'f> Table<'a, 'f> {
    /// The whole document.
    pub(crate) fn root(
        document: &'a DeTable<'a>,
        section: &'static Section,
        findings: &'f mut Findings,
    ) -> Self {
        let mut table = Table { findings, place: Place::default(), entries: Some(document), section };
        table.refuse_unknown_keys();
        table
    }

    /// A table that is not in the file: reading it gives every default.
    pub(crate) fn absent(place: &Place, section: &'static Section, findings: &'f mut Findings) -> Self {
        Table { findings, place: place.clone(), entries: None, section }
    }

    /// A table found by [`Table::tables`].
    pub(crate) fn open(&mut self, node: Node<'a>, section: &'static Section) -> Table<'a, '_> {
        let entries = node.value.as_table();
        let mut table = Table { findings: &mut *self.findings, place: node.place, entries, section };
        table.refuse_unknown_keys();
        table
    }

    /// The table under `key`; an empty one if there is none.
    pub(crate) fn table(&mut self, key: &'static str, section: &'static Section) -> Table<'a, '_> {
        let Some(node) = self.node(key) else {
            return Table::absent(&self.place_of_absent(key), section, self.findings);
        };
        if !node.value.is_table() {
            self.refuse(&node, Refused::expected(format!("a table: {}", section.header)));
        }
        self.open(node, section)
    }

    /// The elements of a list of tables.
    pub(crate) fn tables(&mut self, key: &'static str, section: &'static Section) -> Vec<Node<'a>> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let expected = || Refused::expected(format!("a list of tables: {}", section.header));
        let Some(array) = node.value.as_array() else {
            self.refuse(&node, expected());
            return Vec::new();
        };
        let (tables, others): (Vec<_>, Vec<_>) =
            elements(array, &node.place).into_iter().partition(|element| element.value.is_table());
        for other in others {
            self.refuse(&other, expected());
        }
        tables
    }

    /// Whether `key` is in the file, with whatever value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// The value of `key`, if it is there and accepted.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> Option<At<T>> {
        let node = self.node(key)?;
        self.accept(node, &read)
    }

    /// The value of `key`, which must be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> Option<At<T>> {
        if !self.has(key) {
            self.missing(key, &refusal(&read).expected);
        }
        self.optional(key, read)
    }

    /// The value of `key`; `default` where there is none or it was refused.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
        default: T,
    ) -> At<T> {
        let place = self.place_of_absent(key);
        self.optional(key, read).unwrap_or(At { value: default, place })
    }

    /// The elements of the list under `key`.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> List<T> {
        let Some(node) = self.node(key) else {
            return List {
                items: Vec::new(),
                is_given: false,
                is_complete: true,
                place: self.place_of_absent(key),
            };
        };
        match node.value.as_array() {
            Some(array) => self.accept_each(elements(array, &node.place), node.place, read),
            None => {
                let expected = refusal(&read).expected;
                self.refuse(&node, Refused::expected(format!("a list; each element: {expected}")));
                List { items: Vec::new(), is_given: true, is_complete: false, place: node.place }
            }
        }
    }

    /// Like [`Table::list`], where one value may be written without the brackets.
    pub(crate) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> List<T> {
        match self.node(key) {
            Some(node) if !node.value.is_array() => {
                let place = node.place.clone();
                self.accept_each(vec![node], place, read)
            }
            _ => self.list(key, read),
        }
    }

    /// A table whose keys are the operator's own: each with its place, and its value; in the order of the file.
    pub(crate) fn map<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> Vec<(At<String>, At<T>)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Some(entries) = node.value.as_table() else {
            let expected = refusal(&read).expected;
            self.refuse(&node, Refused::expected(format!("a table; each value: {expected}")));
            return Vec::new();
        };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut read_entries = Vec::new();
        for (name, value) in entries {
            let path = joined(&node.place.key, name.get_ref());
            let own = Place { span: name.span(), key: path.clone() };
            let value =
                Node { value: value.get_ref(), place: Place { span: place_of(name, value), key: path } };
            if let Some(value) = self.accept(value, &read) {
                read_entries.push((At { value: name.get_ref().to_string(), place: own }, value));
            }
        }
        read_entries
    }

    fn accept_each<T>(
        &mut self,
        nodes: Vec<Node<'a>>,
        place: Place,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> List<T> {
        let given = nodes.len();
        let items: Vec<At<T>> = nodes.into_iter().filter_map(|node| self.accept(node, &read)).collect();
        List { is_given: given > 0, is_complete: items.len() == given, items, place }
    }

    /// Like [`Table::one_or_list`], with at least one element.
    pub(crate) fn required_list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> List<T> {
        let expected = refusal(&read).expected;
        if !self.has(key) {
            self.missing(key, &expected);
        }
        let list = self.one_or_list(key, read);
        if self.has(key) && !list.is_given {
            self.findings.push(Finding::error(&list.place, format!("`{key}` is empty")).expected(expected));
        }
        list
    }

    /// Like [`Table::tables`], with at least one element.
    pub(crate) fn required_tables(&mut self, key: &'static str, section: &'static Section) -> Vec<Node<'a>> {
        if !self.has(key) {
            self.missing(key, &format!("at least one {}", section.header));
        }
        if let Some(node) = self.node(key)
            && node.value.as_array().is_some_and(|array| array.is_empty())
        {
            let finding = Finding::error(&node.place, format!("`{key}` is empty"));
            self.findings.push(finding.expected(format!("at least one {}", section.header)));
        }
        self.tables(key, section)
    }

    fn missing(&mut self, key: &str, expected: &str) {
        if !self.findings.is_partial() {
            let message = format!("{} has no `{key}`, which is required", self.section.header);
            let place = self.place_of_absent(key);
            self.findings.push(Finding::error(&place, message).expected(expected));
        }
    }

    fn node(&self, key: &'static str) -> Option<Node<'a>> {
        debug_assert!(self.section.keys.iter().any(|k| k.name == key), "{key} is not in the schema");
        let (name, value) = self.entries?.get_key_value(key)?;
        let place = Place { span: place_of(name, value), key: joined(&self.place.key, key) };
        Some(Node { value: value.get_ref(), place })
    }

    fn place_of_absent(&self, key: &str) -> Place {
        Place { span: self.place.span.clone(), key: joined(&self.place.key, key) }
    }

    fn accept<T>(
        &mut self,
        node: Node<'a>,
        read: &impl Fn(&DeValue<'_>) -> Result<T, Refused>,
    ) -> Option<At<T>> {
        match read(node.value) {
            Ok(value) => Some(At { value, place: node.place }),
            Err(refused) => {
                self.refuse(&node, refused);
                None
            }
        }
    }

    fn refuse(&mut self, node: &Node<'_>, refused: Refused) {
        let plain = || format!("`{}` cannot be {}", last_of(&node.place.key), shown(node.value));
        let message = refused.message.unwrap_or_else(plain);
        self.findings.push(Finding::error(&node.place, message).expected(refused.expected));
    }

    fn refuse_unknown_keys(&mut self) {
        let Some(entries) = self.entries else { return };
        for (name, value) in entries.iter() {
            let key = name.get_ref();
            match self.section.keys.iter().find(|known| known.name == key) {
                None => self.unknown(name),
                Some(Key { support: Support::Built, .. }) => {}
                Some(Key { support: Support::Only(only), .. }) => {
                    let place = Place { span: place_of(name, value), key: joined(&self.place.key, key) };
                    self.refuse_later(&Node { value: value.get_ref(), place }, only);
                }
            }
        }
    }

    fn unknown(&mut self, name: &Spanned<toml::de::DeString<'_>>) {
        let key = name.get_ref();
        let place = Place { span: name.span(), key: joined(&self.place.key, key) };
        let names: Vec<&str> = self.section.keys.iter().map(|known| known.name).collect();
        let mut finding =
            Finding::error(&place, format!("unknown key {} in {}", quoted(key), self.section.header))
                .expected(format!("one of {}", names.join(", ")));
        let elsewhere = || SECTIONS.iter().find(|section| section.keys.iter().any(|known| known.name == key));
        if let Some(near) = nearest(key, &names) {
            finding = finding.help(format!("did you mean `{near}`?"));
        } else if let Some(section) = elsewhere() {
            finding = finding.help(format!("`{key}` is a key of {}", section.header));
        }
        self.findings.push(finding);
    }

    /// Refuses a key that is not built, unless it is set to `only`, which is what is done anyway.
    fn refuse_later(&mut self, node: &Node<'_>, only: &str) {
        let Ok(accepted) = DeValue::parse(only) else { return };
        let (DeValue::Table(given), DeValue::Table(accepted)) = (node.value, accepted.get_ref()) else {
            if !same(node.value, accepted.get_ref()) {
                self.not_supported_yet(&node.place, Some(only));
            }
            return;
        };
        for (name, value) in given.iter() {
            let accepted = accepted.get(name.get_ref().as_ref()).map(Spanned::get_ref);
            if !accepted.is_some_and(|accepted| same(value.get_ref(), accepted)) {
                let place = Place { span: value.span(), key: joined(&node.place.key, name.get_ref()) };
                self.not_supported_yet(&place, accepted.map(shown).as_deref());
            }
        }
    }

    fn not_supported_yet(&mut self, place: &Place, only: Option<&str>) {
        let message = format!("`{}` is not supported yet", last_of(&place.key));
        let expected = only.map_or("nothing".to_owned(), |only| format!("nothing, or {only}"));
        self.findings.push(Finding::error(place, message).expected(expected));
    }
}

/// What `read` accepts, in words: it is given something that no key accepts.
fn refusal<T>(read: &impl Fn(&DeValue<'_>) -> Result<T, Refused>) -> Refused {
    let never = DeValue::Float(toml::de::DeFloat::default());
    read(&never).err().unwrap_or_else(|| Refused::expected("a value"))
}

fn elements<'a>(array: &'a [Spanned<DeValue<'a>>], place: &Place) -> Vec<Node<'a>> {
    let node = |(index, element): (usize, &'a Spanned<DeValue<'a>>)| Node {
        value: element.get_ref(),
        place: Place { span: element.span(), key: format!("{}[{index}]", place.key) },
    };
    array.iter().enumerate().map(node).collect()
}

/// A value's own place; its key's for a table that has no header of its own.
fn place_of(name: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    if value.span().is_empty() { name.span() } else { value.span() }
}

fn joined(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let key = if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The last element of a key path; dots within quotes are part of it.
fn last_of(path: &str) -> &str {
    let quote = path.strip_suffix('"').and_then(|rest| rest.rfind('"'));
    quote.map_or_else(|| path.rsplit('.').next(), |start| path.get(start..)).unwrap_or(path)
}

/// Equal scalars, equal durations however written, or two empty lists.
fn same(given: &DeValue<'_>, accepted: &DeValue<'_>) -> bool {
    match (given, accepted) {
        (DeValue::String(a), DeValue::String(b)) => {
            a == b || duration::parse(a).is_some_and(|a| duration::parse(b) == Some(a))
        }
        (DeValue::Integer(a), DeValue::Integer(b)) => a.to_string() == b.to_string(),
        (DeValue::Boolean(a), DeValue::Boolean(b)) => a == b,
        (DeValue::Array(a), DeValue::Array(b)) => a.is_empty() && b.is_empty(),
        _ => false,
    }
}

/// The name that `key` is probably a slip of.
pub(crate) fn nearest<'n>(key: &str, names: &[&'n str]) -> Option<&'n str> {
    // Comparing takes time by the product of the lengths.
    if key.len() > 64 {
        return None;
    }
    let distance = |name: &str| strsim::damerau_levenshtein(key, name);
    let (name, slips) = names.iter().map(|name| (*name, distance(name))).min_by_key(|(_, slips)| *slips)?;
    (slips <= (name.len() / 3).max(1)).then_some(name)
}
