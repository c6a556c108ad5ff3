//! One table of the file read by its [`Section`]: unknown keys, wrong types and ranges are reported here, once for all keys.
//!
//! Every getter yields `None` when there is no usable value; the reason is reported by then, or the key is optional.

mod tables;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use gateway_core::poll::settings::Limit;
use gateway_core::tag::Name;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::amount;
use crate::keys::{Key, Kind, Need, Section};
use crate::problem::Findings;
use crate::unknown::{self, Meant};
use crate::words;

/// Longest list of texts: more topic filters than any broker's client has.
const TEXTS_MAX: usize = 1000;

/// A table of the file with the section that describes it.
#[derive(Debug)]
pub(crate) struct Reader<'a, 't> {
    section: &'static Section,
    table: &'a DeTable<'t>,
    span: Range<usize>,
    found: &'a Findings<'a>,
    /// What its unknown keys were probably meant to be.
    meant: Vec<Meant>,
    /// It stands in for a table that was refused: nothing can be said about what it holds.
    refused: bool,
}

/// A table inside a table: its key and itself.
pub(crate) struct Entry<'a, 't> {
    pub(crate) name: &'a str,
    pub(crate) name_span: Range<usize>,
    pub(crate) value: &'a Spanned<DeValue<'t>>,
}

/// An entry of a [`Kind::Rules`] list.
pub(crate) enum Item<'a, 't> {
    Text(String, Range<usize>),
    Table(Reader<'a, 't>),
}

/// The word for a duration without an end.
pub(crate) const NEVER: &str = "never";

impl<'a, 't> Reader<'a, 't> {
    /// Takes a table, reports its unknown and its missing keys.
    pub(crate) fn new(
        section: &'static Section,
        table: &'a DeTable<'t>,
        span: Range<usize>,
        found: &'a Findings<'a>,
    ) -> Self {
        let header = found.text(&span);
        let mut meant = Vec::new();
        for entry in entries(table) {
            if section.key(entry.name).is_none() {
                meant.push(unknown::unknown_key(section, header, &entry, table, found));
            }
        }
        let reader = Self { section, table, span, found, meant, refused: false };
        for key in section.keys.iter().filter(|key| key.need == Need::Required) {
            if reader.lacks(key.name) {
                found.misfit(&reader.span, unknown::missing(section, header, key));
            }
        }
        reader
    }

    /// Takes an empty table that stands in for an absent one: what it lacks is reported by the table above.
    pub(crate) fn new_silent(
        section: &'static Section,
        table: &'a DeTable<'t>,
        span: Range<usize>,
        found: &'a Findings<'a>,
    ) -> Self {
        Self { section, table, span, found, meant: Vec::new(), refused: false }
    }

    /// Takes an empty table that stands in for one that was refused: it has no values, not even defaults.
    pub(crate) fn new_refused(
        section: &'static Section,
        table: &'a DeTable<'t>,
        span: Range<usize>,
        found: &'a Findings<'a>,
    ) -> Self {
        Self { refused: true, ..Self::new_silent(section, table, span, found) }
    }

    /// Where the table begins.
    pub(crate) fn here(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn found(&self) -> &'a Findings<'a> {
        self.found
    }

    /// Whether the key is written in the file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Whether the key is neither written nor, misspelt, meant: only then its default counts.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        !self.has(name)
            && !self.refused
            && !self
                .meant
                .iter()
                .any(|m| *m == Meant::Anything || matches!(m, Meant::Key(key) if *key == name))
    }

    /// Whether a table below `name` has this key, or cannot have any because it has no name itself.
    pub(crate) fn has_raw(&self, name: &str, inner: &str) -> bool {
        self.table.get(name).is_some_and(|value| match value.get_ref().as_table() {
            Some(table) => table.contains_key(inner) || table.values().any(|v| !v.get_ref().is_table()),
            None => true,
        })
    }

    /// The value's place, or the table's when the key is absent.
    pub(crate) fn at(&self, name: &str) -> Range<usize> {
        self.table.get(name).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The key's place, or the table's when it is absent.
    pub(crate) fn key_at(&self, name: &str) -> Range<usize> {
        self.table.get_key_value(name).map_or_else(|| self.span.clone(), |(k, _)| k.span())
    }

    /// Reports keys that mean nothing beside the driver, type or policy that is chosen.
    pub(crate) fn only(&self, what: &str, chosen: &str) {
        for key in self.section.keys {
            if !key.only.is_empty() && !key.only.contains(&chosen) && self.has(key.name) {
                let belongs = if key.only.len() > 8 {
                    "numbers".to_owned()
                } else {
                    words::list(key.only.iter().map(|w| format!("\"{w}\"")), "and")
                };
                let text = format!(
                    "`{}` means nothing with {what} = \"{chosen}\", only with {belongs}: remove it",
                    key.name
                );
                self.found.wrong(&self.key_at(key.name), text);
            }
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        self.section.key(name).expect("the reader is asked for keys of its section")
    }

    /// The value in the file or the default, with its place. A key that is misspelt has neither.
    fn value(&self, name: &str) -> Option<(&'static Key, Cow<'a, DeValue<'t>>, Range<usize>)> {
        let key = self.key(name);
        if let Some(value) = self.table.get(name) {
            return Some((key, Cow::Borrowed(value.get_ref()), value.span()));
        }
        let Need::Default(literal) = key.need else { return None };
        if !self.lacks(name) {
            return None;
        }
        let value = DeValue::parse(literal).expect("defaults of the key tables are TOML").into_inner();
        Some((key, Cow::Owned(value), self.span.clone()))
    }

    fn refuse(&self, key: &Key, value: &DeValue<'_>, span: &Range<usize>) {
        self.found.wrong(span, words::wrong_type(key, value, self.found.text(span)));
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        let (key, value, span) = self.value(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.refuse(key, &value, &span);
        }
        flag
    }

    /// A whole number in the key's range.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        let Kind::Int { min, max, .. } = self.key(name).kind else { return None };
        self.int_within(name, min, max, "")
    }

    /// A whole number in a narrower range than the key's, which `why` explains.
    pub(crate) fn int_within(&self, name: &str, min: i64, max: i64, why: &str) -> Option<i64> {
        let (key, value, span) = self.value(name)?;
        let DeValue::Integer(int) = value.as_ref() else {
            self.refuse(key, &value, &span);
            return None;
        };
        let number = i64::from_str_radix(int.as_str(), int.radix()).ok();
        let number = number.filter(|n| (min..=max).contains(n));
        if number.is_none() {
            let source = self.found.text(&span);
            let text = if why.is_empty() {
                words::out_of_range(key, source)
            } else {
                format!("`{name}` = {} is out of range, expected {min} to {max} {why}", words::shown(source))
            };
            self.found.wrong(&span, text);
        }
        number
    }

    /// A whole number in the key's range, in the type of the settings.
    pub(crate) fn uint<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        T::try_from(self.int(name)?).ok()
    }

    /// A finite number in the key's range.
    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        let (key, value, span) = self.value(name)?;
        let Kind::Float { min, max } = key.kind else { return None };
        let Some(number) = number(&value) else {
            self.refuse(key, &value, &span);
            return None;
        };
        if !(min..=max).contains(&number) {
            self.found.wrong(&span, words::out_of_range(key, self.found.text(&span)));
            return None;
        }
        Some(number)
    }

    /// A number of which every digit counts, where it is whole.
    pub(crate) fn limit(&self, name: &str) -> Option<Limit> {
        let number = self.float(name)?;
        let (_, value, _) = self.value(name)?;
        Some(whole(&value).map_or(Limit::Float(number), Limit::Whole))
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.endless(name).flatten()
    }

    /// A duration, or `None` inside for "never", where the key takes that.
    pub(crate) fn endless(&self, name: &str) -> Option<Option<Duration>> {
        let (key, value, span) = self.value(name)?;
        let (Kind::Duration { min, max } | Kind::Endless { min, max }) = key.kind else { return None };
        let Some(text) = value.as_str() else {
            self.refuse(key, &value, &span);
            return None;
        };
        if text == NEVER && matches!(key.kind, Kind::Endless { .. }) {
            return Some(None);
        }
        match amount::duration(text) {
            Ok(duration) if (min..=max).contains(&duration) => return Some(Some(duration)),
            Ok(_) => self.found.wrong(&span, words::out_of_range(key, self.found.text(&span))),
            Err(error) => self.found.wrong(&span, words::no_amount(key, text, error)),
        }
        None
    }

    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        let (key, value, span) = self.value(name)?;
        let Kind::Size { min, max } = key.kind else { return None };
        let Some(text) = value.as_str() else {
            self.refuse(key, &value, &span);
            return None;
        };
        match amount::size(text) {
            Ok(bytes) if (min..=max).contains(&bytes) => return Some(bytes),
            Ok(_) => self.found.wrong(&span, words::out_of_range(key, self.found.text(&span))),
            Err(error) => self.found.wrong(&span, words::no_amount(key, text, error)),
        }
        None
    }

    /// Reports what is wrong with every number, amount and word of the table, whatever is asked for afterwards.
    pub(crate) fn look_through(&self) {
        for key in self.section.keys.iter().filter(|key| self.has(key.name)) {
            match key.kind {
                Kind::Int { .. } => _ = self.int(key.name),
                Kind::Float { .. } => _ = self.float(key.name),
                Kind::Duration { .. } | Kind::Endless { .. } => _ = self.endless(key.name),
                Kind::Size { .. } => _ = self.size(key.name),
                Kind::Bool => _ = self.bool(key.name),
                Kind::Choice(..) => _ = self.choice(key.name),
                _ => {}
            }
        }
    }

    /// Text without control characters, or a path.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let (key, value, span) = self.value(name)?;
        let max = if let Kind::Text { max } = key.kind { max } else { 4096 };
        let Some(text) = value.as_str() else {
            self.refuse(key, &value, &span);
            return None;
        };
        match words::bad_text(key, text, max) {
            None => Some(text.to_owned()),
            Some(problem) => {
                self.found.wrong(&span, problem);
                None
            }
        }
    }

    /// Text whose faults are told without a piece of it.
    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        let (key, value, span) = self.value(name)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.refuse(key, &value, &span);
        }
        text
    }

    pub(crate) fn name(&self, key: &str) -> Option<Name> {
        let text = self.text(key)?;
        named(&text, &self.at(key), self.found)
    }

    /// One of the words of the key.
    pub(crate) fn choice(&self, name: &str) -> Option<&'static str> {
        let (key, value, span) = self.value(name)?;
        let Kind::Choice(choices, _) = key.kind else { return None };
        let Some(text) = value.as_str() else {
            self.refuse(key, &value, &span);
            return None;
        };
        let choice = choices.iter().find(|w| w.word == text);
        if choice.is_none() {
            self.found.wrong(&span, words::unknown_word(key, text));
        }
        choice.map(|w| w.word)
    }

    /// A list of texts with the place of each.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<(String, Range<usize>)>> {
        let (key, value, span) = self.value(name)?;
        let Some(items) = value.as_array() else {
            self.refuse(key, &value, &span);
            return None;
        };
        if items.len() > TEXTS_MAX {
            self.found
                .wrong(&span, format!("`{name}` has {} texts, expected at most {TEXTS_MAX}", items.len()));
            return None;
        }
        let from_file = self.has(name);
        let mut texts = Vec::new();
        for item in items.iter() {
            let at = if from_file { item.span() } else { span.clone() };
            texts.extend(self.item(key, item.get_ref(), &at).map(|text| (text, at)));
        }
        // One that is empty because nothing in it can be read is no empty list.
        (!texts.is_empty() || items.is_empty()).then_some(texts)
    }

    /// A list of whole numbers in the key's range with the place of each; only where the key is in the file.
    pub(crate) fn ints(&self, name: &str) -> Option<Vec<(i64, Range<usize>)>> {
        let (key, value, span) = self.value(name)?;
        let (Some(items), Kind::Ints { min, max }) = (value.as_array(), &key.kind) else {
            self.refuse(key, &value, &span);
            return None;
        };
        let mut numbers = Vec::new();
        for item in items.iter() {
            let problem = match whole(item.get_ref()).and_then(|number| i64::try_from(number).ok()) {
                Some(number) if (*min..=*max).contains(&number) => {
                    numbers.push((number, item.span()));
                    continue;
                }
                None if !matches!(item.get_ref(), DeValue::Integer(_)) => words::no_text(key, item.get_ref()),
                _ => words::out_of_range(key, self.found.text(&item.span())),
            };
            self.found.wrong(&item.span(), problem);
        }
        (numbers.len() == items.len()).then_some(numbers)
    }

    /// A list of texts and tables, in order, and whether nothing else is in it.
    pub(crate) fn mixed(&self, name: &str) -> Option<(Vec<Item<'a, 't>>, bool)> {
        let key = self.key(name);
        let Kind::Rules(section) = key.kind else { return None };
        let Some(value) = self.table.get(name) else {
            let texts = self.texts(name)?;
            return Some((texts.into_iter().map(|(text, span)| Item::Text(text, span)).collect(), true));
        };
        let Some(items) = value.get_ref().as_array() else {
            self.refuse(key, value.get_ref(), &value.span());
            return None;
        };
        let mut list = Vec::new();
        for item in items.iter() {
            if let Some(table) = item.get_ref().as_table() {
                list.push(Item::Table(Reader::new(section, table, item.span(), self.found)));
            } else if let Some(text) = self.item(key, item.get_ref(), &item.span()) {
                list.push(Item::Text(text, item.span()));
            }
        }
        let whole = list.len() == items.len();
        Some((list, whole))
    }

    /// One text of a list.
    fn item(&self, key: &Key, value: &DeValue<'_>, at: &Range<usize>) -> Option<String> {
        let problem = match value.as_str() {
            None => words::no_text(key, value),
            Some("") => format!("`{}` holds an empty text, expected none: remove it", key.name),
            Some(text) => match words::bad_text(key, text, 65_535) {
                None => return Some(text.to_owned()),
                Some(problem) => problem,
            },
        };
        self.found.wrong(at, problem);
        None
    }

    /// Reports a key that is missing, for those that only some tables need.
    pub(crate) fn missing(&self, name: &str) {
        let text = unknown::missing(self.section, self.found.text(&self.span), self.key(name));
        self.found.misfit(&self.span, text);
    }

    /// The raw value, for the few keys that take more than one type.
    pub(crate) fn raw(&self, name: &str) -> Option<(&'a DeValue<'t>, Range<usize>)> {
        self.table.get(name).map(|value| (value.get_ref(), value.span()))
    }

    /// Reports a value of a wrong type, for [`Reader::raw`].
    pub(crate) fn wrong_type(&self, name: &str) {
        if let Some((value, span)) = self.raw(name) {
            self.refuse(self.key(name), value, &span);
        }
    }
}

/// The entries of a table in the order of the file.
pub(crate) fn entries<'a, 't>(table: &'a DeTable<'t>) -> Vec<Entry<'a, 't>> {
    let mut list: Vec<_> = table
        .iter()
        .map(|(key, value)| Entry { name: key.get_ref(), name_span: key.span(), value })
        .collect();
    list.sort_by_key(|e| e.name_span.start);
    list
}

/// A number of either kind; `None` for what is not one. NaN and infinity are left to the range check.
pub(crate) fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(int) if int.radix() == 10 => int.as_str().parse().ok(),
        DeValue::Integer(int) => i64::from_str_radix(int.as_str(), int.radix()).ok().map(|n| {
            #[expect(clippy::cast_precision_loss, reason = "hexadecimal limits beyond 2^53 do not occur")]
            let number = n as f64;
            number
        }),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn whole(value: &DeValue<'_>) -> Option<i128> {
    match value {
        DeValue::Integer(int) => i128::from_str_radix(int.as_str(), int.radix()).ok(),
        _ => None,
    }
}

/// A name with its problem reported.
fn named(text: &str, span: &Range<usize>, found: &Findings<'_>) -> Option<Name> {
    match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            found.wrong(span, words::bad_name(text, &error));
            None
        }
    }
}
