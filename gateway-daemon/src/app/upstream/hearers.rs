//! Which uplinks hear what others send.

use gateway_core::update::settings as update;

use super::Upstream;

/// Tells uplinks of each other and of the topic of commands, which only one of them hears.
pub(in super::super) fn introduce(upstreams: &mut [Upstream], update: Option<&update::Settings>) {
    for upstream in upstreams.iter_mut() {
        let heard = update.is_some_and(|update| upstream.uplink.name() == &update.uplink);
        upstream.reserve(update.map(|update| &update.install_topic), heard);
    }
    find_hearers(upstreams);
}

/// Finds out which uplinks hear what others send: those that lead to the same server and subscribe to something. One that says that it is a bridge does
/// not hear itself.
fn find_hearers(upstreams: &mut [Upstream]) {
    let servers: Vec<Vec<(String, u16)>> = upstreams.iter().map(|upstream| upstream.servers()).collect();
    let listens: Vec<bool> =
        upstreams.iter().map(|upstream| !upstream.down.rules().as_slice().is_empty()).collect();
    for (index, upstream) in upstreams.iter_mut().enumerate() {
        let deaf = upstream.all_servers.bridge_bit;
        let hears = |other: &usize| {
            listens[*other]
                && !(deaf && *other == index)
                && servers[index].iter().any(|server| servers[*other].contains(server))
        };
        upstream.hearers = (0..servers.len()).filter(hears).collect();
    }
}
