//! The broker from outside: bytes in, bytes out, in virtual time. Packets are written and read here by hand and not with the
//! codec under test.

mod bridge;
mod hostile;
mod protocol;
mod sessions;
mod wire;
