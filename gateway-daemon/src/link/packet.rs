//! Sizes and limits of packets on the wire ("MQTT Version 3.1.1", 2.2.3 and 3.3).

use gateway_core::uplink::link::PublishFault;
use gateway_core::uplink::row::Qos;

/// Largest "remaining length" that four bytes can say ("MQTT Version 3.1.1", table 2.4).
pub(super) const REMAINING_MAX: usize = 268_435_455;

/// Longest topic: its length has two bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// Size of a PUBLISH packet in bytes, fixed header included.
fn publish_size(topic: &str, qos: Qos, payload: usize) -> usize {
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let remaining = topic.len().saturating_add(2 + packet_id).saturating_add(payload);
    let length_bytes = match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    remaining.saturating_add(1 + length_bytes)
}

/// Looks at a publish before it reaches the client, which would otherwise end the connection because of it.
pub(super) fn check(
    topic: &str,
    qos: Qos,
    payload: usize,
    packet_bytes_max: u32,
) -> Result<(), PublishFault> {
    let name_ok = !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && !topic.contains(['+', '#', '\0']);
    if !name_ok {
        return Err(PublishFault::Topic);
    }
    let limit = usize::try_from(packet_bytes_max).unwrap_or(usize::MAX).min(REMAINING_MAX);
    let size = publish_size(topic, qos, payload);
    if size > limit { Err(PublishFault::Oversize { size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_what_the_client_encodes() {
        for payload in [0, 1, 100, 118, 119, 120, 121, 200, 16_370, 16_380, 2_097_140, 2_097_160] {
            for (qos, client_qos) in
                [(Qos::AtMostOnce, rumqttc::QoS::AtMostOnce), (Qos::AtLeastOnce, rumqttc::QoS::AtLeastOnce)]
            {
                let mut packet = rumqttc::Publish::new("a/ü", client_qos, vec![0; payload]);
                packet.pkid = 1;
                assert_eq!(publish_size("a/ü", qos, payload), packet.size(), "{payload} {qos:?}");
            }
        }
    }

    #[test]
    fn a_packet_of_exactly_the_limit_passes_and_one_byte_more_is_refused() {
        let size = publish_size("t", Qos::AtLeastOnce, 50);
        let limit = u32::try_from(size).unwrap();
        assert_eq!(check("t", Qos::AtLeastOnce, 50, limit), Ok(()));
        assert_eq!(
            check("t", Qos::AtLeastOnce, 51, limit),
            Err(PublishFault::Oversize { size: size + 1, limit: size })
        );
    }

    #[test]
    fn topics_that_mqtt_forbids_are_refused() {
        for topic in ["", "a/+", "#", "a\0b"] {
            assert_eq!(check(topic, Qos::AtLeastOnce, 1, 1000), Err(PublishFault::Topic), "{topic:?}");
        }
        assert_eq!(check(&"a".repeat(65_536), Qos::AtLeastOnce, 1, u32::MAX), Err(PublishFault::Topic));
        assert_eq!(check("Ü/ß", Qos::AtLeastOnce, 1, 1000), Ok(()));
    }
}
