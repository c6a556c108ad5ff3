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

/// Takes whole requests off what a slave has heard, and answers them in order. A busy machine may hand over several at once.
pub(super) fn answers(slave: &mut Slave, heard: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    while let Some(frame) = take_frame(heard) {
        let Some((&unit, pdu)) = frame.split_first() else { continue };
        let Some(pdu) = slave(unit, pdu) else { continue };
        let mut answer = vec![unit];
        answer.extend(pdu);
        append_crc(&mut answer);
        answers.push(answer);
    }
    answers
}
