//! File descriptors: as many as the process may have, and enough of them kept for the store, uplinks, buses and people.

use gateway_config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listen;

/// Descriptors of the process itself: the runtime's, the database with its log, the journal, signals, the control socket with its clients, files that are
/// read for a moment.
const OWN: u64 = 32;

/// Descriptors of one uplink: its connection, the one before it that says goodbye, and looking up a name.
const UPLINK: u64 = 4;

/// Descriptors of one bus: its timer, its line, and for a moment the look-up of a name. Measured with 256 (docs/hardware.md).
const BUS: u64 = 3;

/// With fewer connections a broker is of no use, and the limit is the fault of whoever starts us.
const CONNECTIONS_LEAST: usize = 4;

/// Takes as many descriptors as the process may have: by default systemd and shells give 1024, and up to 500,000 to those who ask.
pub(super) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // If it is not allowed, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    // `None` is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Descriptors that clients may have. When that is fewer than the file's `connections_max` needs, that is made smaller and said.
pub(super) fn for_clients(config: &mut Config, descriptors_max: u64) -> usize {
    let buses = config.field.buses.len() as u64;
    let uplinks = config.uplinks.len() as u64;
    let Some(broker) = &mut config.broker else { return 0 };
    let kept = OWN + broker.listeners.len() as u64 + UPLINK * uplinks + BUS * buses;
    let left = usize::try_from(descriptors_max.saturating_sub(kept)).unwrap_or(usize::MAX);
    let wanted = listen::places(&broker.limits);
    if wanted <= left {
        return wanted;
    }
    let places = left.max(CONNECTIONS_LEAST + 1);
    // A part is for clients in their handshake, for those that say goodbye, and for those that are told that there are too many.
    let connections = (places - places / 8 - 1).max(CONNECTIONS_LEAST).min(broker.limits.connections_max);
    if connections < broker.limits.connections_max {
        log::warn!(
            connections, descriptors = descriptors_max, reason = "descriptors";
            "this process may have {descriptors_max} file descriptors, so at most {connections} connections of clients and not {} as `connections_max` says: \
             raise LimitNOFILE= of the unit, or `ulimit -n`",
            broker.limits.connections_max
        );
        let limits = &mut broker.limits;
        limits.connections_max = connections;
        // One address or user leaves room for others, as with the defaults.
        let half = (connections / 2).max(1);
        limits.connections_per_address_max = limits.connections_per_address_max.min(half);
        limits.connections_per_user_max = limits.connections_per_user_max.min(half);
    }
    places
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_config::{Environment, parse};

    use super::*;

    fn with(descriptors_max: u64) -> (usize, usize) {
        let text =
            "[gateway]\nid = \"gw\"\n[broker]\n[uplink.a]\nurl = \"mqtt://a\"\n[bus.b]\ndriver = \"sim\"\n";
        let (mut config, _) = parse(text, "a.toml", Path::new("/"), &Environment::default()).unwrap();
        let places = for_clients(&mut config, descriptors_max);
        (places, config.broker.unwrap().limits.connections_max)
    }

    #[test]
    fn clients_leave_descriptors_for_everything_else() {
        assert_eq!(with(4096).1, 1000);
        for descriptors in [1024, 256, 64, 48] {
            let (places, connections) = with(descriptors);
            let beside = 32 + 1 + 4 + 3;
            assert!(places as u64 + beside <= descriptors, "{descriptors}: {places}");
            assert!(connections < places && connections >= 4, "{descriptors}: {connections} of {places}");
        }
        assert_eq!(with(10), (5, 4), "the least that is of use");
    }
}
