//! Which tables there are, where they begin, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::layout;
use super::super::pages::{Hole, Reader, Value, columns};

/// Most queues looked for.
const QUEUES_MAX: usize = 10_000;
/// A higher last seq is damage: queues that began blindly count from 2^40.
const LAST_SEQ_MAX: u64 = 1 << 48;

/// Tables of which there is one, by their number for the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixed {
    Schema,
    Queues,
    Words,
    Copy,
    Aside,
    Facts,
}

const FIXED: [(Fixed, &str); 6] = [
    (Fixed::Schema, ""),
    (Fixed::Queues, "queues"),
    (Fixed::Words, "words"),
    (Fixed::Copy, "words_copy"),
    (Fixed::Aside, "aside"),
    (Fixed::Facts, "facts"),
];

/// A queue with its table.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Its number in the damaged file.
    pub(super) key: i64,
    /// Where its table begins, if that is known.
    pub(super) root: Option<u32>,
    /// Its name, or one that says that it has lost its own.
    pub(super) name: Arc<str>,
    /// Whether the name is its own.
    pub(super) named: bool,
    /// Highest seq ever stored, as far as it is known.
    pub(super) last: u64,
}

/// The tables of a damaged database.
#[derive(Debug, Default)]
pub(super) struct Tables {
    roots: BTreeMap<usize, u32>,
    /// In the order of their numbers for the reader, which begin behind those of [`Fixed`].
    pub(super) queues: Vec<Queue>,
}

/// What the schema says of a table: first page, and the name of the queue.
type Entry = (u32, Option<Arc<str>>);
/// The same by the names of the tables.
type Entries = BTreeMap<String, Entry>;

impl Tables {
    /// The number of the table whose queue is at this place.
    pub(super) fn table_of(index: usize) -> usize {
        FIXED.len() + index
    }

    /// The number for rows of which not even the table is known.
    pub(super) const UNKNOWN: usize = usize::MAX;

    /// Finds the tables and marks their pages.
    pub(super) fn find(reader: &mut Reader<'_>, names: &BTreeMap<i64, Arc<str>>) -> Self {
        let mut tables = Self::default();
        reader.mark(Fixed::Schema as usize, 1);
        let entries = entries(reader);
        tables.roots.insert(Fixed::Schema as usize, 1);
        for (fixed, name) in FIXED.into_iter().skip(1) {
            if let Some((root, _)) = entries.get(name) {
                reader.mark(fixed as usize, *root);
                tables.roots.insert(fixed as usize, *root);
            } else if !matches!(fixed, Fixed::Copy | Fixed::Aside) || reader.has_hole(Fixed::Schema as usize)
            {
                reader.dig(Hole::whole(fixed as usize));
            }
        }
        let listed = tables.listed(reader);
        tables.queues = queues(&entries, &listed, names);
        for (index, queue) in tables.queues.iter().enumerate() {
            match queue.root {
                Some(root) => reader.mark(Self::table_of(index), root),
                None => reader.dig(Hole::whole(Self::table_of(index))),
            }
        }
        // With neither a schema nor a list there may be queues of which nothing is known.
        if reader.has_hole(Fixed::Schema as usize)
            && reader.has_hole(Fixed::Queues as usize)
            && listed.is_empty()
        {
            reader.dig(Hole::whole(Self::UNKNOWN));
        }
        tables
    }

    /// Numbers, names and last seqs of the table `queues`. No checksum guards them: a row counts only where its page is whole.
    fn listed(&self, reader: &mut Reader<'_>) -> BTreeMap<i64, (Arc<str>, u64)> {
        let mut listed = BTreeMap::new();
        self.read(reader, Fixed::Queues, &mut |key, payload| match columns(payload).as_deref() {
            Some([Value::Null, Value::Text(name), Value::Int(last)]) if listed.len() < QUEUES_MAX => {
                let last = Some(last.cast_unsigned()).filter(|last| *last < LAST_SEQ_MAX).unwrap_or(0);
                listed.entry(key).or_insert_with(|| (Arc::from(*name), last));
                true
            }
            _ => false,
        });
        listed
    }

    /// Gives the rows of a table to `take`, and where it has holes, those of stray pages. Says how many were refused on the way down.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        fixed: Fixed,
        take: &mut dyn FnMut(i64, &[u8]) -> bool,
    ) -> u64 {
        let refused = self.walk(reader, fixed, take);
        let holes: Vec<Hole> =
            reader.holes().iter().filter(|hole| hole.table == fixed as usize).copied().collect();
        if !holes.is_empty() {
            reader.strays(&mut |stray| {
                stray.rows(&mut |key, payload| {
                    if holes.iter().any(|hole| hole.holds(key)) {
                        take(key, payload);
                    }
                });
            });
        }
        refused
    }

    /// Gives the rows to which the table's tree leads to `take`. Says how many were refused.
    pub(super) fn walk(
        &self,
        reader: &mut Reader<'_>,
        fixed: Fixed,
        take: &mut dyn FnMut(i64, &[u8]) -> bool,
    ) -> u64 {
        self.roots.get(&(fixed as usize)).map_or(0, |root| reader.walk(*root, take).refused)
    }
}

/// The entries of the schema; what stands on stray pages counts only where nothing contradicts it.
fn entries(reader: &mut Reader<'_>) -> Entries {
    let mut sure = Entries::new();
    reader.walk(1, &mut |_, payload| {
        entry(payload).is_some_and(|(name, root, queue)| {
            sure.entry(name).or_insert((root, queue));
            true
        })
    });
    if !reader.has_hole(Fixed::Schema as usize) {
        return sure;
    }
    let mut found: BTreeMap<String, BTreeSet<Entry>> = BTreeMap::new();
    let mut users: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (name, (root, _)) in &sure {
        users.entry(*root).or_default().insert(name.clone());
    }
    reader.strays(&mut |stray| {
        stray.rows(&mut |_, payload| {
            if let Some((name, root, queue)) = entry(payload).filter(|_| found.len() < QUEUES_MAX) {
                users.entry(root).or_default().insert(name.clone());
                found.entry(name).or_default().insert((root, queue));
            }
        });
    });
    for (name, mut places) in found {
        if let (Some((root, queue)), None) = (places.pop_first(), places.pop_first())
            && users.get(&root).is_some_and(|users| users.len() == 1)
        {
            sure.entry(name).or_insert((root, queue));
        }
    }
    sure
}

/// Name, first page and queue of a table out of a row of the schema.
fn entry(payload: &[u8]) -> Option<(String, u32, Option<Arc<str>>)> {
    let columns = columns(payload)?;
    let [Value::Text("table"), Value::Text(name), _, Value::Int(root), Value::Text(sql)] = columns[..] else {
        return None;
    };
    let root = u32::try_from(root).ok().filter(|root| *root > 1)?;
    let key = key_of(name);
    if key.is_none() && !FIXED.iter().any(|(_, fixed)| *fixed == name) {
        return None;
    }
    let queue = key.and_then(|key| layout::queue_of_table(key, sql)).map(Arc::from);
    Some((name.to_owned(), root, queue))
}

/// The number of the queue whose table has this name.
fn key_of(table: &str) -> Option<i64> {
    table.strip_prefix('q')?.parse().ok().filter(|key| *key > 0)
}

/// Every queue of which something is known.
fn queues(
    entries: &Entries,
    listed: &BTreeMap<i64, (Arc<str>, u64)>,
    names: &BTreeMap<i64, Arc<str>>,
) -> Vec<Queue> {
    let tables: BTreeMap<i64, &Entry> =
        entries.iter().filter_map(|(table, entry)| Some((key_of(table)?, entry))).collect();
    let keys: BTreeSet<i64> =
        tables.keys().chain(listed.keys()).chain(names.keys()).copied().take(QUEUES_MAX).collect();
    let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut queues: Vec<Queue> = keys
        .into_iter()
        .map(|key| {
            let by_table = tables.get(&key).and_then(|(_, name)| name.clone());
            let by_list = listed.get(&key);
            let name = names.get(&key).cloned().or(by_table).or(by_list.map(|(name, _)| Arc::clone(name)));
            // Two queues of one name are damage: rows of the second would take the place of those of the first.
            let name = name.filter(|name| taken.insert(Arc::clone(name)));
            Queue {
                key,
                root: tables.get(&key).map(|(root, _)| *root),
                named: name.is_some(),
                name: name.unwrap_or_default(),
                last: by_list.map_or(0, |(_, last)| *last),
            }
        })
        .collect();
    for queue in queues.iter_mut().filter(|queue| !queue.named) {
        queue.name = nameless(queue.key, &mut taken);
    }
    queues
}

/// A name for rows that have lost theirs.
fn nameless(key: i64, taken: &mut BTreeSet<Arc<str>>) -> Arc<str> {
    let mut number = key;
    loop {
        let name: Arc<str> = format!("salvaged-{number}").into();
        if taken.insert(Arc::clone(&name)) {
            return name;
        }
        number = number.saturating_add(1);
    }
}

impl Tables {
    /// A name for rows of which nobody knows the queue.
    pub(super) fn unowned(&self) -> Arc<str> {
        nameless(0, &mut self.queues.iter().map(|queue| Arc::clone(&queue.name)).collect())
    }
}
