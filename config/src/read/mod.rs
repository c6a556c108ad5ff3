//! Section by section from the tree to the settings, and the checks between sections.

pub(crate) mod access;
pub(crate) mod address;
pub(crate) mod board;
pub(crate) mod broker;
pub(crate) mod bus;
pub(crate) mod certificates;
pub(crate) mod device;
pub(crate) mod files;
pub(crate) mod fit;
pub(crate) mod health;
pub(crate) mod network;
pub(crate) mod overlap;
pub(crate) mod own;
pub(crate) mod revoked;
pub(crate) mod rules;
pub(crate) mod schedule;
pub(crate) mod server;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod topic;
pub(crate) mod update;
pub(crate) mod uplink;
pub(crate) mod url;
pub(crate) mod web;

use std::ops::Range;
use std::path::Path;

use gateway_core::tag::Name;
use toml::de::DeTable;

use crate::Environment;
use crate::keys::Section;
use crate::problem::Findings;
use crate::reader::Reader;

/// What every section needs to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a, 't> {
    pub(crate) found: &'a Findings<'a>,
    /// Stands in for tables that the file does not have.
    pub(crate) empty: &'a DeTable<'t>,
    /// Folder of the configuration file.
    pub(crate) base: &'a Path,
    pub(crate) env: &'a Environment,
}

impl<'a, 't> Context<'a, 't> {
    /// The table below a key, or an empty one that yields the defaults; one that was refused yields nothing.
    pub(crate) fn table_or_empty(
        &self,
        reader: &Reader<'a, 't>,
        name: &str,
        section: &'static Section,
    ) -> Reader<'a, 't> {
        let lacks = reader.lacks(name);
        reader.table(name).unwrap_or_else(|| match lacks {
            true => Reader::new_silent(section, self.empty, reader.here(), self.found),
            false => Reader::new_refused(section, self.empty, reader.here(), self.found),
        })
    }
}

/// Tables below a key.
type Tables<'a, 't> = Vec<(Name, Range<usize>, Reader<'a, 't>)>;

/// Refuses a file with more of something below `key` of `reader` than a gateway may have, at the first that is too many; those are not read.
fn at_most(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    tables: &mut Tables<'_, '_>,
    max: usize,
    what: &str,
) {
    if let Some((name, span, _)) = tables.get(max) {
        let text = format!(
            "{} {what}, expected at most {max} for one gateway: move `{name}` and those after it to a second gateway",
            cx.found.amount(reader.written(key), max)
        );
        cx.found.too_many(span, text);
    }
    tables.truncate(max);
}
