//! What a record means: the names and units behind its indices.

use std::fmt;
use std::sync::Arc;

use super::wire::{Reader, put_text, put_varint};
use super::{DecodeError, PayloadError};
use crate::tag::{GroupId, Name, TagName, Unit};

/// Most tags of one schema: an index in a record is a u16.
pub const SCHEMA_TAGS_MAX: usize = u16::MAX as usize;

/// First byte of an encoded schema.
const SCHEMA_VERSION: u8 = 1;

/// Identity of a schema: the FNV-1a hash (64 bit, "The FNV Non-Cryptographic Hash Algorithm", RFC 9923) of its encoding. The same names and
/// units in the same order have the same id in every run and on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u64);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A tag as a message names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaTag {
    /// Key in the message.
    pub name: TagName,
    /// Engineering unit, never empty.
    pub unit: Option<Unit>,
}

/// Names and units of one poll group. Stored once beside the records that refer to it, so that rows outlive the
/// configuration that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    id: SchemaId,
    bus: Name,
    device: Name,
    group: Name,
    tags: Vec<SchemaTag>,
}

/// Where schemas are found by their id: the store's table with the running configuration in front.
pub trait Schemas {
    /// The schema of a record, if it is known.
    fn schema(&self, id: SchemaId) -> Option<Arc<Schema>>;
}

impl Schema {
    /// Makes a schema from its names.
    ///
    /// # Errors
    /// [`PayloadError::TooManyTags`] above [`SCHEMA_TAGS_MAX`].
    pub fn new(bus: Name, device: Name, group: Name, tags: Vec<SchemaTag>) -> Result<Self, PayloadError> {
        if tags.len() > SCHEMA_TAGS_MAX {
            return Err(PayloadError::TooManyTags { device, group, tags: tags.len() });
        }
        let mut schema = Self { id: SchemaId(0), bus, device, group, tags };
        for tag in &mut schema.tags {
            tag.unit.take_if(|unit| unit.is_empty());
        }
        schema.id = SchemaId(fnv1a(&schema.encode()));
        Ok(schema)
    }

    /// The schema of one poll group of a configuration.
    ///
    /// # Errors
    /// [`PayloadError::NoSuchGroup`] if an index of the settings leads nowhere; [`PayloadError::TooManyTags`].
    pub fn of_group(settings: &crate::poll::settings::Settings, id: GroupId) -> Result<Self, PayloadError> {
        let missing = || PayloadError::NoSuchGroup(id);
        let group = settings.groups.get(id.0 as usize).ok_or_else(missing)?;
        let device = settings.devices.get(group.device).ok_or_else(missing)?;
        let bus = settings.buses.get(device.bus).ok_or_else(missing)?;
        let tags = settings.tags.get(group.tags()).ok_or_else(missing)?;
        let tags = tags.iter().map(|tag| SchemaTag { name: tag.name.clone(), unit: tag.unit.clone() });
        Self::new(bus.name.clone(), device.name.clone(), group.name.clone(), tags.collect())
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// Name of the bus.
    #[must_use]
    pub fn bus(&self) -> &Name {
        &self.bus
    }

    /// Name of the device.
    #[must_use]
    pub fn device(&self) -> &Name {
        &self.device
    }

    /// Name of the poll group.
    #[must_use]
    pub fn group(&self) -> &Name {
        &self.group
    }

    /// Its tags; a record refers to them by index.
    #[must_use]
    pub fn tags(&self) -> &[SchemaTag] {
        &self.tags
    }

    /// The bytes that the store keeps; drawn in the documentation of [`super`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SCHEMA_VERSION];
        for name in [&self.bus, &self.device, &self.group] {
            put_text(&mut out, name.as_str());
        }
        put_varint(&mut out, self.tags.len() as u64);
        for tag in &self.tags {
            put_text(&mut out, tag.name.as_str());
            put_text(&mut out, tag.unit.as_deref().unwrap_or_default());
        }
        out
    }

    /// Reads what [`Schema::encode`] wrote.
    ///
    /// # Errors
    /// Any byte that `encode` would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        /// A name of one character and an empty unit.
        const TAG_LEN_MIN: usize = 3;
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            SCHEMA_VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let name = |reader: &mut Reader<'_>| Name::new(reader.text()?).map_err(|_| DecodeError::Text);
        let (bus, device, group) = (name(&mut reader)?, name(&mut reader)?, name(&mut reader)?);
        let count = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Count)?;
        if count > SCHEMA_TAGS_MAX || count > reader.left() / TAG_LEN_MIN {
            return Err(DecodeError::Count);
        }
        let mut tags = Vec::with_capacity(count);
        for _ in 0..count {
            let name = name(&mut reader)?;
            let unit = reader.text()?;
            tags.push(SchemaTag { name, unit: (!unit.is_empty()).then(|| unit.into()) });
        }
        reader.end()?;
        Ok(Self { id: SchemaId(fnv1a(bytes)), bus, device, group, tags })
    }
}

/// FNV-1a, 64 bit: short, stable, and good enough where nobody chooses the input to collide.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}
