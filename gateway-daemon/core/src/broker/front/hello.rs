//! CONNECT of three versions (3.1; "MQTT V3.1 Protocol Specification", 3.1).

use mqtt_protocol_core::mqtt::packet::{Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::super::CloseReason;
use super::super::packet::{Hello, Message, Packet, Testament, Version};
use super::properties::{self, Extras, Of};
use super::{Front, NAME, NAME_V31, check_text, publish, used_up};
use crate::tag::BootNs;

/// Bit of the level that a bridge sets.
const BRIDGE: u8 = 0x80;

/// Connect flags (3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const WILL_QOS: u8 = 0x18;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER: u8 = 0x80;
}

impl Front {
    /// Reads the body of a CONNECT, and keeps its bytes for [`Front::take_hello`].
    pub(super) fn hello(&mut self, now: BootNs, first: u8, body: &[u8]) -> Result<Packet, CloseReason> {
        let hello = self.read_hello(now, first, body)?;
        self.hello = [&[first], body].concat();
        Ok(Packet::Connect(Box::new(hello)))
    }

    /// Reads the body of a CONNECT; from then on the version is known, even if the rest is refused.
    pub(super) fn read_hello(&mut self, now: BootNs, first: u8, body: &[u8]) -> Result<Hello, CloseReason> {
        let short = CloseReason::Malformed("a CONNECT that ends too early");
        let (old, rest) = match (body.strip_prefix(NAME), body.strip_prefix(NAME_V31)) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(short),
        };
        let Some((&level, rest)) = rest.split_first() else { return Err(short) };
        // mosquitto's bridges set the highest bit of levels 3 and 4 ("try_private" of mosquitto.conf): they want retain flags as they were published, and
        // nothing back that they sent themselves. What mosquitto does for them (src/handle_subscribe.c).
        self.bridge = level & BRIDGE != 0;
        let version = match (old, level) {
            (true, 3 | 0x83) => Version::V31,
            (false, 4 | 0x84) => Version::V311,
            (false, 5) => Version::V5,
            _ => {
                // Said in the words of 5.0 to what comes after it, in those of 3.1.1 to everybody else.
                let later = level > 5 && level & BRIDGE == 0;
                self.version = Some(if later { Version::V5 } else { Version::V311 });
                return Err(CloseReason::Version);
            }
        };
        self.version = Some(version);
        // What is reserved later was "not used" in 3.1, and some set it.
        if first != 0 && version != Version::V31 {
            return Err(CloseReason::Malformed("reserved bits of the first byte"));
        }
        let Some(&flags) = rest.first() else { return Err(short) };
        check_flags(version, flags)?;
        let hello = match version {
            Version::V5 => self.hello_v5(now, flags, body)?,
            Version::V31 | Version::V311 => hello_v3(now, version, flags, rest)?,
        };
        check_text(&hello.client)?;
        hello.user.as_deref().map_or(Ok(()), check_text)?;
        let must_have = version == Version::V31 || (version == Version::V311 && !hello.clean);
        if hello.client.is_empty() && must_have {
            return Err(CloseReason::ClientId);
        }
        Ok(hello)
    }

    fn hello_v5(&mut self, now: BootNs, flags: u8, body: &[u8]) -> Result<Hello, CloseReason> {
        // The library wants a user name with every password, as 3.1.1 did. The password is the last field: it is cut off.
        let alone = flags & (flag::PASSWORD | flag::USER) == flag::PASSWORD;
        let mut copy;
        let mut bytes = body;
        if alone {
            copy = body.to_vec();
            copy[NAME.len() + 1] &= !flag::PASSWORD;
            bytes = &copy;
        }
        let will = bound_properties(flags, body)?;
        let (connect, consumed) = v5_0::Connect::parse(bytes).map_err(fault)?;
        let mut password = connect.password().map(<[u8]>::to_vec);
        if alone {
            password = Some(binary(&body[consumed..])?.to_vec());
        } else {
            used_up(consumed, body)?;
        }
        properties::check(connect.props())?;
        let mut hello = Hello {
            version: Version::V5,
            client: connect.client_id().to_owned(),
            clean: connect.clean_start(),
            expiry_s: 0,
            keep_alive: connect.keep_alive(),
            user: connect.user_name().filter(|_| flags & flag::USER != 0).map(str::to_owned),
            password,
            will: None,
            receive_max: u16::MAX,
            packet_bytes_max: None,
            aliases_max: 0,
            wants_reasons: true,
            authentication_method: false,
        };
        take_properties(&mut hello, connect.props())?;
        if flags & flag::WILL != 0 {
            let extras = properties::extras(will, Of::Will)?;
            let will = (connect.will_topic(), connect.will_payload());
            hello.will = Some(testament(now, flags, will, extras)?);
        }
        self.peer_bytes_max =
            hello.packet_bytes_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        self.wants_words = connect.props().iter().any(
            |property| matches!(property, Property::RequestProblemInformation(wanted) if wanted.val() == 1),
        );
        self.sent.allow(hello.aliases_max);
        Ok(hello)
    }
}

/// Properties of CONNECT and of its will are not too many; gives those of the will. The library says what cannot be read.
fn bound_properties(flags: u8, body: &[u8]) -> Result<&[u8], CloseReason> {
    properties::bound(body, BEFORE_PROPERTIES)?;
    let (_, rest) = match properties::section(body.get(BEFORE_PROPERTIES..).unwrap_or_default()) {
        Ok(parts) if flags & flag::WILL != 0 => parts,
        _ => return Ok(&[]),
    };
    let Some((client, rest)) = rest.split_first_chunk() else { return Ok(&[]) };
    let rest = rest.get(usize::from(u16::from_be_bytes(*client))..).unwrap_or_default();
    properties::bound(rest, 0)?;
    Ok(properties::section(rest).map_or(&[], |(will, _)| will))
}

/// Bytes of a CONNECT before its properties: protocol name, level, flags and keep-alive (3.1.2).
const BEFORE_PROPERTIES: usize = NAME.len() + 4;

/// Connect flags that contradict themselves or the version.
fn check_flags(version: Version, flags: u8) -> Result<(), CloseReason> {
    if flags & flag::RESERVED != 0 && version != Version::V31 {
        return Err(CloseReason::Malformed("the reserved connect flag"));
    }
    publish::qos(flags >> 3)?;
    if flags & flag::WILL == 0 && flags & (flag::WILL_QOS | flag::WILL_RETAIN) != 0 {
        return Err(CloseReason::Malformed("flags of a will without a will"));
    }
    if version != Version::V5 && flags & (flag::PASSWORD | flag::USER) == flag::PASSWORD {
        return Err(CloseReason::Malformed("a password without a user name"));
    }
    Ok(())
}

/// 3.1 and 3.1.1. `rest` begins with the connect flags.
fn hello_v3(now: BootNs, version: Version, flags: u8, rest: &[u8]) -> Result<Hello, CloseReason> {
    let mut body = Vec::with_capacity(NAME.len() + 1 + rest.len());
    body.extend_from_slice(NAME);
    body.push(4);
    body.extend_from_slice(rest);
    // "Server implementations must allow for the possibility that the flag is set, but the string is missing" ("MQTT V3.1 Protocol
    // Specification", 3.1): then the flag counts for nothing.
    let masks: &[u8] = match version {
        Version::V31 => &[0, flag::PASSWORD, flag::PASSWORD | flag::USER],
        _ => &[0],
    };
    let mut outcome = Err(CloseReason::Malformed("a field that cannot be read"));
    for mask in masks {
        body[NAME.len() + 1] = flags & !mask & !flag::RESERVED;
        outcome = v3_1_1::Connect::parse(&body).map_err(fault).and_then(|(connect, consumed)| {
            used_up(consumed, &body)?;
            Ok(connect)
        });
        if outcome.is_ok() {
            break;
        }
    }
    let connect = outcome?;
    let will = match flags & flag::WILL {
        0 => None,
        _ => Some(testament(now, flags, (connect.will_topic(), connect.will_payload()), Extras::default())?),
    };
    Ok(Hello {
        version,
        client: connect.client_id().to_owned(),
        clean: connect.clean_session(),
        expiry_s: if connect.clean_session() { 0 } else { u32::MAX },
        keep_alive: connect.keep_alive(),
        user: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        will,
        receive_max: u16::MAX,
        packet_bytes_max: None,
        aliases_max: 0,
        wants_reasons: false,
        authentication_method: false,
    })
}

/// Properties of CONNECT (3.1.2.11); that each belongs there and stands there once is known.
fn take_properties(hello: &mut Hello, properties: &[Property]) -> Result<(), CloseReason> {
    let mut authentication_bytes = false;
    for property in properties {
        match property {
            Property::SessionExpiryInterval(expiry) => hello.expiry_s = expiry.val(),
            Property::ReceiveMaximum(max) => hello.receive_max = max.val(),
            Property::MaximumPacketSize(max) => hello.packet_bytes_max = Some(max.val()),
            Property::TopicAliasMaximum(max) => hello.aliases_max = max.val(),
            Property::RequestProblemInformation(wanted) => hello.wants_reasons = wanted.val() == 1,
            Property::AuthenticationMethod(_) => hello.authentication_method = true,
            Property::AuthenticationData(_) => authentication_bytes = true,
            _ => {}
        }
    }
    // 3.1.2.11.10.
    if authentication_bytes && !hello.authentication_method {
        return Err(CloseReason::Protocol("authentication data without a method"));
    }
    Ok(())
}

fn testament(
    now: BootNs,
    flags: u8,
    (topic, body): (Option<&str>, Option<&[u8]>),
    extras: Extras,
) -> Result<Testament, CloseReason> {
    let topic = topic.ok_or(CloseReason::Malformed("a will without a topic"))?;
    let body = body.unwrap_or_default();
    properties::check_payload(&extras, body)?;
    let message = Message {
        topic: publish::topic_name(topic)?,
        body: body.into(),
        qos: publish::qos(flags >> 3)?,
        retain: flags & flag::WILL_RETAIN != 0,
        properties: extras.properties,
        at: now,
        expiry_s: extras.expiry_s,
    };
    Ok(Testament { message, delay: extras.delay })
}

/// Binary data that fills the rest of a packet (1.5.6).
fn binary(bytes: &[u8]) -> Result<&[u8], CloseReason> {
    match bytes.split_first_chunk() {
        Some((length, rest)) if rest.len() == usize::from(u16::from_be_bytes(*length)) => Ok(rest),
        _ => Err(CloseReason::Malformed("a password that cannot be read")),
    }
}

/// What the library says of a CONNECT. Its words for names and passwords are for the broker to say, of what it could read.
fn fault(error: MqttError) -> CloseReason {
    match error {
        MqttError::ProtocolError => super::fault(error),
        _ => CloseReason::Malformed("a field of CONNECT that cannot be read"),
    }
}
