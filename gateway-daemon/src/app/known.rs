//! The schemas of this configuration, and those of rows that former configurations left in the store.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::payload::{Encoder, Schema, SchemaId, Schemas};

/// Schemas by their identity. Bounded by what the store keeps and the configuration has.
#[derive(Debug, Default)]
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
        known.extend(encoder.schemas().map(|schema| (schema.id(), Arc::clone(schema))));
        Self(known)
    }
}

impl Schemas for Known {
    fn schema(&self, id: SchemaId) -> Option<Arc<Schema>> {
        self.0.get(&id).map(Arc::clone)
    }
}
