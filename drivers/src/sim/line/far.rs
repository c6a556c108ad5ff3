//! The far end: a port for a program, or a slave inside the line.

use super::pty::Pty;
use crate::modbus::rtu::append_crc;
use crate::sim::serve::take_frame;

/// Answers the PDU of a unit with a PDU, or not at all.
pub type Slave = Box<dyn FnMut(u8, &[u8]) -> Option<Vec<u8>> + Send>;

pub(super) enum Far {
    Port(Pty),
    Slave(Slave),
}

/// Takes a whole request off what a slave has heard and answers it: how many bytes the request took, and the answer.
pub(super) fn answer(slave: &mut Slave, heard: &mut Vec<u8>) -> Option<Vec<u8>> {
    let frame = take_frame(heard)?;
    let (&unit, pdu) = frame.split_first()?;
    let pdu = slave(unit, pdu)?;
    let mut answer = vec![unit];
    answer.extend(pdu);
    append_crc(&mut answer);
    Some(answer)
}
