//! What a changed configuration changes in a running gateway. Pure: two configurations in, a course out.
//!
//! A bus is the same when its line and everything on it are the same, wherever they stand in the file. An uplink is known by its name. What cannot change
//! under a running gateway is said in whole sentences, and then nothing of the file is taken: a file is in force as a whole or not at all.

use gateway_config::Config;
use gateway_core::poll::Part;
use gateway_core::settings::LinkSettings;
use gateway_core::uplink::settings::Settings;

/// What becomes of an uplink of the changed configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It goes on as it is, from this place in the former configuration.
    Keep(usize),
    /// It goes on with other settings.
    Change(Changed),
    /// It is opened.
    Open,
}

/// What differs for an uplink that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// Its place in the former configuration.
    pub from: usize,
    /// Other topics go up.
    pub forward: bool,
    /// The connection has to be made anew.
    pub reconnect: bool,
}

/// The way from one configuration to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Delta {
    /// By bus of the changed configuration: its place in the former one, if its task goes on.
    pub kept: Vec<Option<usize>>,
    /// Places of the buses whose tasks end, in the former configuration.
    pub ended: Vec<usize>,
    /// By uplink of the changed configuration.
    pub uplinks: Vec<Course>,
    /// Places of the uplinks that are gone, in the former configuration.
    pub gone: Vec<usize>,
    /// Readings become other messages: every tag is reported once more.
    pub message: bool,
    /// Users or rules of the local broker.
    pub access: bool,
}

impl Delta {
    /// The way from `before` to `after`.
    ///
    /// # Errors
    /// One sentence for each key that a running gateway cannot take.
    pub(super) fn between(before: &Config, after: &Config) -> Result<Self, Vec<String>> {
        let restarts = restarts(before, after);
        if !restarts.is_empty() {
            return Err(restarts);
        }
        let former = Part::all(&before.field);
        let kept: Vec<Option<usize>> = (Part::all(&after.field).iter())
            .map(|part| former.iter().position(|former| former.field == part.field))
            .collect();
        let uplinks: Vec<Course> =
            after.uplinks.iter().map(|uplink| course(&before.uplinks, uplink)).collect();
        let stays = |name| after.uplinks.iter().any(|(settings, _)| settings.name == name);
        let gone =
            before.uplinks.iter().enumerate().filter(|(_, (settings, _))| !stays(settings.name.clone()));
        let access = before.broker.as_ref().map(|broker| &broker.access);
        Ok(Self {
            ended: (0..former.len()).filter(|index| !kept.contains(&Some(*index))).collect(),
            gone: gone.map(|(index, _)| index).collect(),
            message: before.message != after.message,
            access: access != after.broker.as_ref().map(|broker| &broker.access),
            kept,
            uplinks,
        })
    }
}

fn course(before: &[(Settings, LinkSettings)], (settings, link): &(Settings, LinkSettings)) -> Course {
    let Some(from) = before.iter().position(|(former, _)| former.name == settings.name) else {
        return Course::Open;
    };
    let (former, former_link) = &before[from];
    if former == settings && former_link == link {
        return Course::Keep(from);
    }
    // What a connection is made with, and what is said on it; the rest holds from the next message on.
    let connected =
        |of: &Settings| (of.accept.clone(), of.qos, of.window, of.ack_timeout, of.status_topic.clone());
    let reconnect = former_link != link || connected(former) != connected(settings);
    Course::Change(Changed { from, forward: former.forward != settings.forward, reconnect })
}

/// What only a restart can change.
fn restarts(before: &Config, after: &Config) -> Vec<String> {
    let (old, new) = (&before.gateway, &after.gateway);
    let mut sentences = Vec::new();
    let mut say = |differs: bool, key: &str, why: &str| {
        if differs {
            let what = "cannot change while the gateway runs";
            sentences.push(format!("{key} {what}: {why}; restart with: systemctl restart tidegate"));
        }
    };
    say(old.id != new.id, "`gateway.id`", "topics, queues and status messages bear it");
    say(old.socket != new.socket, "`gateway.socket`", "commands reach the running gateway by it");
    say(old.trust_clock != new.trust_clock, "`gateway.trust_clock`", "readings were given their time by it");
    let memory = before.plan.memory_said || after.plan.memory_said;
    say(
        memory && before.plan.memory_bytes_max != after.plan.memory_bytes_max,
        "`gateway.memory_max`",
        "limits are built on it",
    );
    say(before.store != after.store, "`[store]`", "the database is open");
    say(before.update != after.update, "`[update]`", "a command may be under way");
    match (&before.broker, &after.broker) {
        (Some(old), Some(new)) => {
            // What the file says; limits that give way to others hold until the next start.
            say(
                before.plan.broker != after.plan.broker,
                "the limits of `[broker]`",
                "sessions and queues are built on them",
            );
            say(old.retained != new.retained, "`[broker.retained]`", "what is retained counts by it");
            say(old.listeners != new.listeners, "`[broker.listener]`", "clients are connected through it");
        }
        (None, None) => {}
        (None, Some(_)) => say(true, "a `[broker]` that was not there", "what it keeps is read at the start"),
        (Some(_), None) => say(true, "taking `[broker]` away", "it holds messages of clients"),
    }
    sentences
}

#[cfg(test)]
mod tests;
