//! A sans-IO MQTT broker: first cut in memory. Owned by the broker work.
