//! The queue alone.
