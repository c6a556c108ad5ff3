//! Updates of the whole system: what the update tool says, what may be asked of it, and whether an updated system may stay.
//!
//! ```text
//! command of the cloud --order--> +-------+ --wire--> agent --rauc--> slot that is not running
//! terminal            --source--> |       | <--Reply--  (root)  <--output
//!                                 +-------+
//! after the reboot:  Before + Observations --gate--> Good: the slot stays | Bad: back to the old one
//! ```
//!
//! - [`output`]: what `rauc install` prints, as steps and as reasons for a failure; [`slots`]: what `rauc status` prints.
//! - [`source`]: which sources may be installed at all. [`wire`]: what is said on the agent's socket.
//! - [`trial`]: what was true before, and what is seen of a running gateway. [`gate`]: the verdict about an updated system.
//! - [`version`]: which of two is the newer one. [`record`]: what survives reboots. [`order`]: commands of the cloud. [`herald`]: what the cloud is told, and how often.
//!
//! It never runs a program, opens a file or a socket, or reads a clock.

pub mod gate;
pub mod herald;
pub mod order;
pub mod output;
pub mod reason;
pub mod record;
pub mod settings;
pub mod slots;
pub mod source;
pub mod trial;
pub mod version;
pub mod wire;

pub use gate::{Gate, Verdict};
pub use reason::{Failure, Reason};
