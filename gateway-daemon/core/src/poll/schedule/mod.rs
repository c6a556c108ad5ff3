//! When each poll group of one bus is asked.
//!
//! The task that owns the line drives a schedule like this, and never waits for anything else:
//!
//! ```text
//! Schedule::new(&settings, bus, now) -> Schedule             bus taken as up; call bus_down if it cannot be opened
//! next(&mut self, now) -> Step                               Ask: put it on the line and call next again; Wait: until then
//! answered(&mut self, now, Ticket, Result<Answer, LineFault>) once per order; Err(Down) also means bus_down
//! bus_down(&mut self, now), bus_up(&mut self, now)           down: outstanding orders are void, cycles turn BusDown
//! take_cycles(&mut self) -> Vec<Cycle>                       after each of the calls above
//! counters(&self) -> &Counters                               of the bus
//! devices(&self) -> impl Iterator<Item = DeviceHealth<'_>>   in the order of Settings::devices
//! group_counters(&self, GroupId) -> Option<GroupCounters>
//! ```

mod counters;
mod health;
mod order;

pub use counters::{Counters, EXCEPTION_CODE_MAX, Exceptions, Faults, GroupCounters};
pub use health::{DeviceHealth, DeviceState};
pub use order::{Order, Step, Ticket};
