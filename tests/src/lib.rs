//! End to end tests and what they need: real peers, fakes that misbehave on purpose, certificates, and networks that go wrong.
//!
//! Peers are real programs where that is possible. A missing peer fails the test with the one line that installs it.

pub mod account;
pub mod bare;
pub mod bench;
pub mod built;
pub mod card;
pub mod careful;
pub mod certs;
pub mod clients;
pub mod command;
pub mod container;
pub mod counter_device;
pub mod fake_broker;
pub mod fast_device;
pub mod firmware;
pub mod gateway;
pub mod links;
pub mod machine;
pub mod many;
pub mod mosquitto;
pub mod office;
pub mod packets;
pub mod panel;
pub mod peers;
pub mod proxy;
pub mod sim;
pub mod sim_broker;
pub mod sink;
pub mod site;
pub mod terminal;
pub mod trixie;
pub mod tryboot;
pub mod units;
pub mod wait;
pub mod watcher;
pub mod workshop;
pub mod yard;
