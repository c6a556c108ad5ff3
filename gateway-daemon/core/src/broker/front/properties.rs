//! Properties of 5.0, as the library reads them, to what the broker uses (2.2.2).

use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::Property;
use mqtt_protocol_core::mqtt::prelude::PropertyValueAccess as _;

use super::super::CloseReason;
use super::super::packet::Properties;
use super::super::topic::TopicName;
use super::check_text;

/// What the properties of a PUBLISH or of a will say.
#[derive(Default)]
pub(super) struct Extras {
    /// What is handed on.
    pub(super) properties: Option<Arc<Properties>>,
    pub(super) expiry_s: Option<u32>,
    pub(super) alias: Option<u16>,
    pub(super) delay: Duration,
}

/// No string of any property holds U+0000, and none but user properties stands twice.
pub(super) fn check(properties: &[Property]) -> Result<(), CloseReason> {
    let mut seen = 0_u64;
    for property in properties {
        let bit = 1_u64 << (property.id() as u8 & 63);
        if seen & bit != 0 && !matches!(property, Property::UserProperty(_)) {
            return Err(CloseReason::Protocol("a property stands twice"));
        }
        seen |= bit;
        property.as_str().map_or(Ok(()), check_text)?;
        if let Some((name, value)) = property.as_key_value() {
            check_text(name)?;
            check_text(value)?;
        }
    }
    Ok(())
}

/// Takes the properties of a message.
pub(super) fn extras(wire: &[Property]) -> Result<Extras, CloseReason> {
    let mut extras = Extras::default();
    if wire.is_empty() {
        return Ok(extras);
    }
    check(wire)?;
    let mut ours = Properties::default();
    for property in wire {
        match property {
            Property::PayloadFormatIndicator(format) => ours.utf8 = format.val() == 1,
            Property::MessageExpiryInterval(expiry) => extras.expiry_s = Some(expiry.val()),
            Property::TopicAlias(alias) => extras.alias = Some(alias.val()),
            Property::WillDelayInterval(delay) => extras.delay = Duration::from_secs(delay.val().into()),
            Property::ContentType(kind) => ours.content_type = Some(kind.val().into()),
            Property::ResponseTopic(topic) => {
                ours.response_topic = Some(
                    TopicName::new(topic.val())
                        .map_err(|_| CloseReason::Protocol("a response topic that is not a topic name"))?,
                );
            }
            Property::CorrelationData(bytes) => ours.correlation = Some(bytes.val().into()),
            Property::UserProperty(pair) => ours.user.push((pair.key().into(), pair.val().into())),
            // 3.3.4: only the server says which subscriptions matched.
            _ => return Err(CloseReason::Protocol("a property that only servers send")),
        }
    }
    if ours != Properties::default() {
        extras.properties = Some(Arc::new(ours));
    }
    Ok(extras)
}

/// A body that is said to be text is text (3.3.2.3.2).
pub(super) fn check_payload(extras: &Extras, body: &[u8]) -> Result<(), CloseReason> {
    let said = extras.properties.as_ref().is_some_and(|properties| properties.utf8);
    if said && std::str::from_utf8(body).is_err() { Err(CloseReason::Payload) } else { Ok(()) }
}
