//! Plain settings of what a tag's reading goes through.

use std::time::Duration;

/// When a reading is worth a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// Change since the last reported value that is too small to report.
    pub deadband: Deadband,
    /// A reading is reported after this long even if nothing changed; `None` reports only changes. Without a deadband and
    /// without `on_change` every reading is reported.
    pub silence_max: Option<Duration>,
    /// Good values turn [`crate::tag::Reason::Stale`] after so many missed scan intervals; 0 never.
    pub stale_after: u16,
}

/// How large a change must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    /// Every reading is reported.
    Off,
    /// Only a different value is reported.
    OnChange,
    /// A change of more than so many engineering units.
    Absolute(f64),
    /// A change of more than so many percent of the last reported value.
    Percent(f64),
}
