//! What to ask which device next, and what the answer means.
//!
//! [`settings`] are the plain settings of the field side, [`request`] is the conversation with a line. [`plan`] turns
//! points into the fewest requests and says what they cost on the wire, [`schedule`] decides when each is asked,
//! [`decode`] turns registers into values and [`encode`] values into registers. [`Part`] is one bus of the whole. [`words`] says what is wrong with
//! a device, and [`changes`] what the log says of it when.
//!
//! Nothing here reads a clock or touches a line: time is an argument, a request is a return value.

pub mod changes;
pub mod decode;
pub mod encode;
mod order;
mod part;
pub mod plan;
pub mod request;
pub mod schedule;
pub mod settings;
pub mod words;

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod testing;

pub use part::Part;
pub use settings::Settings;
