//! The readings of one cycle to drafts: what to publish, where, and how much it matters.

use std::ops::Range;
use std::sync::Arc;

use super::PayloadError;
use super::record::{Head, RECORD_READINGS_MAX, write};
use super::schema::{Schema, SchemaId, Schemas};
use super::settings::{Settings, Shape};
use super::topic::{Template, Words};
use crate::poll::settings as poll;
use crate::tag::{BootNs, GroupId, Name, Reading};
use crate::uplink::row::{Body, Priority};

/// A message that has no number yet: the queue gives it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it is published.
    pub topic: Arc<str>,
    /// What is published.
    pub body: Body,
    /// How many readings it carries.
    pub readings: u32,
    /// The highest priority of its tags.
    pub priority: Priority,
    /// Whether brokers keep it as the last one of its topic. Readings are not retained: an old value would look fresh.
    pub retain: bool,
    /// When its earliest reading was sampled.
    pub at: BootNs,
}

/// What the encoder has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Readings that became part of a message.
    pub readings_total: u64,
    /// Messages made.
    pub messages_total: u64,
    /// Bytes of their records.
    pub record_bytes_total: u64,
    /// Readings refused because their tag is not in the group or repeats; a fault of the caller, never of the field.
    pub foreign_readings_total: u64,
}

/// Topic and priority of a tag, or of a whole group.
#[derive(Debug, Clone)]
struct Tag {
    /// Topic of its own, with [`Shape::Tag`].
    topic: Option<Arc<str>>,
    priority: Priority,
}

#[derive(Debug)]
struct Group {
    schema: Arc<Schema>,
    /// Its tags in the configuration's list.
    tags: Range<usize>,
    /// Topic of the whole group, with [`Shape::Group`].
    topic: Option<Arc<str>>,
}

/// Makes drafts for one configuration. All topics and schemas are computed once.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    groups: Vec<Group>,
    tags: Vec<Tag>,
    /// Reused between records.
    buffer: Vec<u8>,
    counters: Counters,
}

impl Encoder {
    /// Computes schemas and topics of all poll groups.
    ///
    /// # Errors
    /// The template cannot be used with this shape, or a group cannot be numbered.
    pub fn new(gateway: &Name, settings: &Settings, field: &poll::Settings) -> Result<Self, PayloadError> {
        let template = Template::parse(&settings.topic)?;
        let priority = |tag: &poll::Tag| if tag.alarm { Priority::High } else { Priority::Normal };
        let mut tags: Vec<Tag> =
            field.tags.iter().map(|tag| Tag { topic: None, priority: priority(tag) }).collect();
        let mut groups = Vec::with_capacity(field.groups.len());
        for (index, group) in (0..).zip(&field.groups) {
            let schema = Arc::new(Schema::of_group(field, GroupId(index))?);
            let words = Words {
                gateway,
                bus: schema.bus(),
                device: schema.device(),
                group: schema.group(),
                tag: None,
            };
            let topic = match settings.shape {
                Shape::Group => Some(Arc::from(template.fill(&words)?)),
                Shape::Tag => {
                    for (tag, named) in tags[group.tags()].iter_mut().zip(schema.tags()) {
                        let words = Words { tag: Some(&named.name), ..words };
                        tag.topic = Some(Arc::from(template.fill(&words)?));
                    }
                    None
                }
            };
            groups.push(Group { schema: Arc::clone(&schema), tags: group.tags(), topic });
        }
        Ok(Self { shape: settings.shape, groups, tags, buffer: Vec::new(), counters: Counters::default() })
    }

    /// Counts on from what an encoder of a former configuration has counted.
    #[must_use]
    pub fn counting_from(mut self, counters: Counters) -> Self {
        self.counters = counters;
        self
    }

    /// The schemas of all poll groups, in the order of [`GroupId`]; they must be in the store before their records are.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.groups.iter().map(|group| &group.schema)
    }

    /// Every topic that may be published to, in the order of the configuration, with repetitions where the template says so.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.iter().flat_map(|group| {
            let own = self.tags[group.tags.clone()].iter().filter_map(|tag| tag.topic.as_ref());
            group.topic.iter().chain(own)
        })
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Turns readings of one cycle of one group, in the group's order, into messages: one per [`RECORD_READINGS_MAX`] tags of the group, or
    /// one per reading. No readings, no messages.
    pub fn encode(&mut self, group: GroupId, readings: &[Reading]) -> Vec<Draft> {
        let Some(known) = self.groups.get(group.0 as usize) else {
            self.counters.foreign_readings_total += readings.len() as u64;
            return Vec::new();
        };
        let mut drafts = Vec::new();
        let mut rest = readings;
        while let Some(first) = rest.first() {
            let tag = first.tag.0 as usize;
            if !known.tags.contains(&tag) {
                self.counters.foreign_readings_total += 1;
                rest = &rest[1..];
                continue;
            }
            let len = match self.shape {
                Shape::Tag => 1,
                Shape::Group => run_len(rest, &known.tags),
            };
            let (chunk, after) = rest.split_at(len);
            rest = after;
            let own = self.tags.get(tag).and_then(|tag| tag.topic.as_ref());
            let Some(topic) = known.topic.as_ref().or(own) else {
                self.counters.foreign_readings_total += chunk.len() as u64;
                continue;
            };
            let base = chunk.iter().map(|reading| reading.at).min().unwrap_or(first.at);
            let head = Head { schema: known.schema.id(), shape: self.shape, thinned: false, base };
            let start = known.tags.start;
            self.buffer.clear();
            write(&mut self.buffer, &head, chunk.iter().map(|reading| entry(start, base, reading)));
            let priority = chunk.iter().filter_map(|reading| self.tags.get(reading.tag.0 as usize));
            let draft = Draft {
                topic: Arc::clone(topic),
                body: Body::Record(Arc::from(self.buffer.as_slice())),
                readings: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
                priority: priority.map(|tag| tag.priority).max().unwrap_or_default(),
                retain: false,
                at: base,
            };
            self.counters.readings_total += u64::from(draft.readings);
            self.counters.messages_total += 1;
            self.counters.record_bytes_total += self.buffer.len() as u64;
            drafts.push(draft);
        }
        drafts
    }
}

impl Schemas for Encoder {
    fn schema(&self, id: SchemaId) -> Option<Arc<Schema>> {
        self.groups.iter().map(|group| &group.schema).find(|schema| schema.id() == id).cloned()
    }
}

/// How many readings from the front fit one record: ascending tags of the group within one part of [`RECORD_READINGS_MAX`].
/// At least one.
fn run_len(readings: &[Reading], tags: &Range<usize>) -> usize {
    let part = |reading: &Reading| (reading.tag.0 as usize).saturating_sub(tags.start) / RECORD_READINGS_MAX;
    let joins = |pair: &[Reading]| {
        pair[0].tag < pair[1].tag
            && tags.contains(&(pair[1].tag.0 as usize))
            && part(&pair[0]) == part(&pair[1])
    };
    1 + readings.windows(2).take_while(|pair| joins(pair)).count()
}

fn entry(start: usize, base: BootNs, reading: &Reading) -> (u16, u64, &crate::tag::Sample) {
    let index = u16::try_from((reading.tag.0 as usize).saturating_sub(start)).unwrap_or(u16::MAX);
    (index, reading.at.0.saturating_sub(base.0) / 1000, &reading.sample)
}
