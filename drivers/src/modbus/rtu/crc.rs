//! CRC-16 of RTU frames ("MODBUS over Serial Line V1.02", 2.5.1.2 and appendix B): polynomial 0xA001 reflected, start 0xFFFF,
//! low byte first on the wire.

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "byte < 256")]
        let mut crc = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Checksum of `bytes`.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| crc >> 8 ^ TABLE[usize::from((crc ^ u16::from(*byte)) & 0xFF)])
}

/// Appends the checksum of `frame` to it.
pub fn append_crc(frame: &mut Vec<u8>) {
    let crc = crc16(frame);
    frame.extend_from_slice(&crc.to_le_bytes());
}

/// Whether `frame` is long enough and ends with its checksum.
pub(super) fn crc_fits(frame: &[u8]) -> bool {
    frame.len() >= super::FRAME_BYTES_MIN
        && frame.split_last_chunk::<2>().is_some_and(|(body, crc)| crc16(body).to_le_bytes() == *crc)
}
