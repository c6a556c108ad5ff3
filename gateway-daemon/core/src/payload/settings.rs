//! Plain settings of how readings become messages.

/// One message per what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One JSON message per cycle of a poll group (default).
    Group,
    /// One JSON message per tag.
    Tag,
}

/// How readings become messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One message per what.
    pub shape: Shape,
    /// Topic with `{gateway}`, `{bus}`, `{device}`, `{group}` and, for [`Shape::Tag`], `{tag}`.
    pub topic: String,
    /// Whether units are part of the message.
    pub units: bool,
}
