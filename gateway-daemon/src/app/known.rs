//! The schemas of this configuration, and those of rows that former configurations left in the store.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::payload::{Encoder, Schema, SchemaId, Schemas};
use gateway_core::tag::Name;

/// Most schemas that a reload may leave known: as many as the store keeps, so that a row it has can always be read.
const SCHEMAS_MAX: usize = 16_384;

/// Schemas by their identity. Bounded by what the store keeps and the configuration has; a reload that would go beyond [`SCHEMAS_MAX`] is refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(HashMap<SchemaId, Arc<Schema>>);

impl Known {
    /// Takes the schemas of the encoder and those of the store. One that cannot be decoded is left out with a warning; its rows
    /// are counted as unreadable when their turn comes.
    #[must_use]
    pub(super) fn new(encoder: &Encoder, stored: Vec<(u64, Vec<u8>)>) -> Self {
        let mut known = HashMap::new();
        for (id, bytes) in stored {
            match Schema::decode(&bytes) {
                Ok(schema) if schema.id() == SchemaId(id) => {
                    known.insert(schema.id(), Arc::new(schema));
                }
                Ok(_) => log::warn!("the stored schema {id:016x} has another identity than its bytes"),
                Err(fault) => log::warn!("the stored schema {id:016x} cannot be read: {fault}"),
            }
        }
        let mut known = Self(known);
        known.learn(encoder);
        known
    }

    /// Whether there is room for the schemas of another encoder.
    #[must_use]
    pub(super) fn has_room(&self, encoder: &Encoder) -> bool {
        self.fits(encoder, SCHEMAS_MAX)
    }

    fn fits(&self, encoder: &Encoder, most: usize) -> bool {
        let fresh = encoder.schemas().filter(|schema| !self.0.contains_key(&schema.id())).count();
        fresh == 0 || self.0.len().saturating_add(fresh) <= most
    }

    /// Names of the bus and the device of each.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.values().map(|schema| (schema.bus(), schema.device()))
    }

    /// Takes the schemas of another encoder; rows of former ones may still be on their way.
    pub(super) fn learn(&mut self, encoder: &Encoder) {
        self.0.extend(encoder.schemas().map(|schema| (schema.id(), Arc::clone(schema))));
    }
}

impl Schemas for Known {
    fn schema(&self, id: SchemaId) -> Option<Arc<Schema>> {
        self.0.get(&id).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_config::{Environment, parse};

    use super::*;

    fn encoder(tag: &str) -> Encoder {
        let text = format!(
            "[gateway]\nid = \"gw\"\n[store]\n[bus.line]\ndriver = \"sim\"\n[device.meter]\nbus = \"line\"\nunit = 1\n\
             [[device.meter.poll]]\nevery = \"1s\"\ntags.{tag} = {{ holding = 0, type = \"u16\" }}\n"
        );
        let (config, _) = parse(&text, "a.toml", Path::new("/"), &Environment::default()).unwrap();
        Encoder::new(&config.gateway.id, &config.message, &config.field).unwrap()
    }

    fn of(encoder: &Encoder) -> Vec<(u64, Vec<u8>)> {
        encoder.schemas().map(|schema| (schema.id().0, schema.encode().to_vec())).collect()
    }

    #[test]
    fn rows_of_a_former_configuration_keep_their_schema() {
        let (former, present) = (encoder("voltage"), encoder("current"));
        let known = Known::new(&present, of(&former));
        for (id, _) in of(&former).into_iter().chain(of(&present)) {
            assert_eq!(known.schema(SchemaId(id)).map(|schema| schema.id()), Some(SchemaId(id)));
        }
    }

    #[test]
    fn another_configuration_has_room_up_to_the_bound_and_the_same_one_always() {
        let (former, present) = (encoder("voltage"), encoder("current"));
        let known = Known::new(&former, Vec::new());
        let count = known.0.len();
        assert!(known.fits(&present, count + of(&present).len()));
        assert!(!known.fits(&present, count + of(&present).len() - 1));
        assert!(known.fits(&former, 0), "nothing is added");
        assert!(known.has_room(&present));
    }

    #[test]
    fn what_is_no_schema_or_another_one_than_it_says_is_left_out() {
        let (former, present) = (encoder("voltage"), encoder("current"));
        let (id, bytes) = of(&former).remove(0);
        let torn = bytes[..bytes.len() / 2].to_vec();
        for stored in [(id, torn), (id, Vec::new()), (id, vec![0xFF; 40]), (id ^ 1, bytes)] {
            let known = Known::new(&present, vec![stored.clone()]);
            assert!(known.schema(SchemaId(stored.0)).is_none(), "{stored:?}");
            assert_eq!(known.0.len(), of(&present).len());
        }
    }
}
