//! Users that come with their passwords.

use std::sync::Arc;

use super::disk::door;
use super::wire::{Bench, packet, text};
use crate::broker::access::{Access, Client, Rule, User};
use crate::broker::{Action, ConnId, Origin, Settings};

/// Ada and Bob, who may do what these rules of everybody say; and whoever comes without a name, if `anonymous`.
pub(super) fn two_users(anonymous: bool, rules: &[(bool, &str)]) -> Settings {
    let user =
        |name: &str| (Arc::from(name), User { hash: Some(format!("hash of {name}").into()), rules: vec![] });
    let everybody = rules.iter().map(|(allow, text)| Rule::parse(*allow, text).unwrap()).collect();
    let access = Access { users: [user("ada"), user("bob")].into(), everybody, ..Access::default() };
    Settings { listeners: vec![door(anonymous)], access, ..Settings::default() }
}

/// The same without one of the users.
pub(super) fn without(mut settings: Settings, user: &str) -> Settings {
    settings.access.users.remove(user);
    settings
}

/// The same with an owner for a client id.
pub(super) fn owned(mut settings: Settings, client: &str, users: &[&str]) -> Settings {
    let users = Some(users.iter().map(|user| Arc::from(*user)).collect());
    settings.access.clients.insert(client.into(), Client { users, rules: vec![] });
    settings
}

/// A will of topic, body and delay in seconds; QoS 1 and retained.
pub(super) type LastWill<'a> = (&'a str, &'a str, u32);

/// CONNECT of 5.0 with a user, `expiry_s` and a will.
pub(super) fn hello(
    id: &str,
    user: Option<&str>,
    clean: bool,
    expiry_s: u32,
    will: Option<LastWill<'_>>,
) -> Vec<u8> {
    let flags = u8::from(clean) << 1
        | if user.is_some() { 0xc0 } else { 0 }
        | if will.is_some() { 4 | 1 << 3 | 1 << 5 } else { 0 };
    let mut body = b"\0\x04MQTT\x05".to_vec();
    body.push(flags);
    body.extend([0, 0, 5, 0x11]);
    body.extend(expiry_s.to_be_bytes());
    body.extend(text(id));
    if let Some((topic, message, delay_s)) = will {
        body.extend([5, 0x18]);
        body.extend(delay_s.to_be_bytes());
        body.extend(text(topic));
        body.extend(text(message));
    }
    if let Some(user) = user {
        body.extend(text(user));
        body.extend(text("secret"));
    }
    packet(0x10, &body)
}

impl Bench {
    /// A connection from an address that says hello; a password is always right.
    pub(super) fn enter(&mut self, from: &str, hello: &[u8]) -> ConnId {
        let conn = self.open_from(Origin { peer: from.into(), ..Origin::default() });
        self.say(conn, hello);
        let asked = |action: &Action| matches!(action, Action::Verify { conn: asked, .. } if *asked == conn);
        if let Some(place) = self.others.iter().position(asked) {
            self.others.remove(place);
            self.broker.handle_verified(self.now, conn, true);
            self.run();
        }
        conn
    }

    /// A user of 5.0; gives the code of CONNACK and whether the session was there.
    pub(super) fn user5(&mut self, id: &str, user: Option<&str>, expiry_s: u32) -> (ConnId, u8, bool) {
        let conn = self.enter("192.0.2.1:1", &hello(id, user, false, expiry_s, None));
        let told = self.told(conn);
        assert_eq!(told[0], 0x20, "{told:?}");
        (conn, told[3], told[2] == 1)
    }

    /// A user of 3.1.1; gives the code of CONNACK and whether the session was there.
    pub(super) fn user3(&mut self, id: &str, user: Option<&str>, clean: bool) -> (ConnId, u8, bool) {
        let mut body = b"\0\x04MQTT\x04".to_vec();
        body.push(u8::from(clean) << 1 | if user.is_some() { 0xc0 } else { 0 });
        body.extend([0, 0]);
        body.extend(text(id));
        if let Some(user) = user {
            body.extend(text(user));
            body.extend(text("secret"));
        }
        let conn = self.enter("192.0.2.1:1", &packet(0x10, &body));
        let told = self.told(conn);
        assert_eq!(told[0], 0x20, "{told:?}");
        (conn, told[3], told[2] == 1)
    }

    /// The rules of these settings hold from here on, also after a crash.
    pub(super) fn reload(&mut self, settings: Settings) {
        self.broker.replace_access(self.now, settings.access.clone());
        self.settings = settings;
        self.run();
    }
}
