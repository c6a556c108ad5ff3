//! The broker from outside: bytes in, bytes out, in virtual time. Packets are written and read here by hand and not with the
//! codec under test.

mod announce;
mod bridge;
mod disk;
mod due;
mod durable;
mod fair;
mod hostile;
mod left_out;
mod login;
mod memory;
mod own;
mod owners;
mod people;
mod protocol;
mod quotas;
mod reset;
mod rules;
mod running;
mod sessions;
mod shared;
mod small;
mod strangers;
mod system;
mod traffic;
mod v5;
mod wills;
mod wills_refused;
mod wire;
mod wire5;
mod work;
