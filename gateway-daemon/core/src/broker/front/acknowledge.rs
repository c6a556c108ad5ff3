//! PUBACK, PUBREC, PUBREL and PUBCOMP: two bytes nearly always.

use mqtt_protocol_core::mqtt::packet::{Property, v5_0};

use super::super::CloseReason;
use super::super::packet::{Packet, Version};
use super::{fault, properties, used_up};

/// Reads the packet of type `kind`, 4 to 7.
pub(super) fn read(version: Version, kind: u8, body: &[u8]) -> Result<Packet, CloseReason> {
    let (id, refused) = match *body {
        [0, 0, ..] => return Err(CloseReason::Protocol("packet identifier 0")),
        [high, low] => (u16::from_be_bytes([high, low]), false),
        [_, _, code, ..] if version == Version::V5 => (long(kind, body)?, code >= 0x80),
        _ => return Err(CloseReason::Malformed("an acknowledgement of the wrong length")),
    };
    Ok(match kind {
        4 => Packet::Acknowledged(id),
        5 => Packet::Received { id, refused },
        6 => Packet::Release(id),
        _ => Packet::Completed(id),
    })
}

/// With reason code and properties (3.4.2).
fn long(kind: u8, body: &[u8]) -> Result<u16, CloseReason> {
    let checked = |consumed: usize, properties: Option<&Vec<Property>>| {
        used_up(consumed, body)?;
        properties.map_or(Ok(()), |properties| properties::check(properties))
    };
    properties::bound(body, 3)?;
    match kind {
        4 => v5_0::Puback::parse(body).map_err(fault).and_then(|(packet, consumed)| {
            checked(consumed, packet.props().as_ref()).map(|()| packet.packet_id())
        }),
        5 => v5_0::Pubrec::parse(body).map_err(fault).and_then(|(packet, consumed)| {
            checked(consumed, packet.props().as_ref()).map(|()| packet.packet_id())
        }),
        6 => v5_0::Pubrel::parse(body).map_err(fault).and_then(|(packet, consumed)| {
            checked(consumed, packet.props().as_ref()).map(|()| packet.packet_id())
        }),
        _ => v5_0::Pubcomp::parse(body).map_err(fault).and_then(|(packet, consumed)| {
            checked(consumed, packet.props().as_ref()).map(|()| packet.packet_id())
        }),
    }
}
