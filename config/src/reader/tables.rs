//! The tables below a table: one, several with names, or a list.

use std::ops::Range;
use std::sync::Arc;

use gateway_core::tag::Name;
use toml::de::DeValue;

use super::{Reader, entries, named};
use crate::keys::{Kind, Section};
use crate::words;

impl<'a, 't> Reader<'a, 't> {
    /// The table below a [`Kind::Table`] key.
    pub(crate) fn table(&self, name: &str) -> Option<Reader<'a, 't>> {
        let key = self.key(name);
        let Kind::Table(section) = key.kind else { return None };
        let value = self.table.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.refuse(key, value.get_ref(), &value.span());
            return None;
        };
        Some(Reader::new(section, table, value.span(), self.found))
    }

    /// The named tables below a [`Kind::Named`] key in the order of the file, with their names.
    pub(crate) fn named(&self, name: &str) -> Vec<(Name, Range<usize>, Reader<'a, 't>)> {
        let Kind::Named(section) = self.key(name).kind else { return Vec::new() };
        self.tables(name, section, |text, span| named(text, span, self.found))
    }

    /// How many tables, or other things, stand below a key; says nothing about them.
    pub(crate) fn tables_below(&self, name: &str) -> usize {
        self.table.get(name).and_then(|value| value.get_ref().as_table()).map_or(0, |table| table.len())
    }

    /// How many tables, or entries of a list, the file writes below a key, also those that are wrong and those that no getter gives.
    pub(crate) fn written(&self, name: &str) -> usize {
        self.table.get(name).map_or(0, |value| match value.get_ref() {
            DeValue::Table(table) => table.values().filter(|value| value.get_ref().is_table()).count(),
            DeValue::Array(items) => items.len(),
            _ => 0,
        })
    }

    /// The tables below a [`Kind::Quoted`] key in the order of the file, with their names.
    pub(crate) fn quoted(&self, name: &str) -> Vec<(Arc<str>, Range<usize>, Reader<'a, 't>)> {
        let key = self.key(name);
        let Kind::Quoted(section, max) = key.kind else { return Vec::new() };
        self.tables(name, section, |text, span| match words::bad_text(key, text, max) {
            None => Some(text.into()),
            Some(problem) => {
                self.found.wrong(span, problem);
                None
            }
        })
    }

    fn tables<N>(
        &self,
        name: &str,
        section: &'static Section,
        named: impl Fn(&str, &Range<usize>) -> Option<N>,
    ) -> Vec<(N, Range<usize>, Reader<'a, 't>)> {
        let key = self.key(name);
        let Some(value) = self.table.get(name) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.found.wrong(&value.span(), words::not_named(key, section, value.get_ref()));
            return Vec::new();
        };
        let mut list = Vec::new();
        for entry in entries(table) {
            let Some(inner) = entry.value.get_ref().as_table() else {
                let text = words::not_a_table(key, section, &entry);
                self.found.wrong(&entry.name_span, text);
                if section.key(entry.name).is_some() {
                    break; // the name was forgotten: its keys stand here one after the other
                }
                continue;
            };
            let Some(name) = named(entry.name, &entry.name_span) else { continue };
            let reader = Reader::new(section, inner, entry.value.span(), self.found);
            list.push((name, entry.name_span, reader));
        }
        list
    }

    /// The tables of a [`Kind::List`] key.
    pub(crate) fn list(&self, name: &str) -> Vec<Reader<'a, 't>> {
        let key = self.key(name);
        let Kind::List(section) = key.kind else { return Vec::new() };
        let Some(value) = self.table.get(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.found.wrong(&value.span(), words::not_a_list(key, section, value.get_ref()));
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => list.push(Reader::new(section, table, item.span(), self.found)),
                None => self.found.wrong(&item.span(), words::not_a_list(key, section, item.get_ref())),
            }
        }
        list
    }
}
