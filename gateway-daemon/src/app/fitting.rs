//! Limits that hold at a start, whatever the file says: a file that ran before runs on, with what does not fit made smaller.
//!
//! `check`, a reload and a first start refuse such a file ([`gateway_core::fit`]). A machine in the field that comes back from an update or a power cut has
//! nobody beside it: it starts with limits that hold, none below what is stored, says each in the log as an error, and shows a fault until the file is
//! mended.

use gateway_config::Config;
use gateway_core::broker::{FactKind, Found};
use gateway_core::fit::{Plan, Stored, Sum};
use gateway_core::uplink::row::Stored as Rows;

use crate::store::Store;

/// The name of the fault.
pub(super) const FAULT: &str = "limits";

/// What the store holds of everything that has a limit.
pub(super) async fn stored(config: &Config, store: &Store, found: &Found) -> Stored {
    // Of a database that cannot be opened nobody knows what is in it: then no limit of it is lowered.
    if found.blind || !store.health().open {
        let all = vec![u64::MAX; config.uplinks.len()];
        return Stored { local_bytes: u64::MAX, uplinks: all, ..Stored::default() };
    }
    let bytes = |rows: &Rows| rows.normal.bytes.saturating_add(rows.high.bytes);
    let queues = store.queues().await;
    let of =
        |name: &str| queues.iter().find(|(queue, _)| &**queue == name).map_or(0, |(_, rows)| bytes(rows));
    let facts = |kind| found.facts.iter().filter(move |(key, _)| key.kind == kind);
    Stored {
        local_bytes: found.queues.iter().map(|(_, rows)| bytes(rows)).fold(0, u64::saturating_add),
        sessions: facts(FactKind::Session).count() as u64,
        subscriptions: facts(FactKind::Subscription).count() as u64,
        retained_bytes: facts(FactKind::Retained)
            .map(|(key, value)| (key.key.len() + value.len()) as u64)
            .sum(),
        uplinks: config.uplinks.iter().map(|(settings, _)| of(settings.name.as_str())).collect(),
    }
}

/// Puts limits that fit into the configuration. Gives the sentence of the fault when those of the file do not, after each was told to the log.
pub(super) fn fit(config: &mut Config, stored: &Stored) -> Option<String> {
    let mut asked = config.plan.clone();
    asked.lower(false, &Stored::default());
    let wrong: Vec<Sum> = [asked.memory(), asked.disk()].into_iter().filter(|sum| !sum.fits()).collect();
    let mut plan = config.plan.clone();
    keep_former_defaults(&mut plan, stored);
    // Of a file that does not fit, what it asks for gives way first: its neighbours keep their defaults.
    let changes = plan.lower(!wrong.is_empty(), stored);
    put(config, &plan);
    if wrong.is_empty() {
        return None;
    }
    for sum in &wrong {
        log::error!(reason = "limits"; "limits: {sum}");
    }
    for change in &changes {
        let key = change.key.as_str();
        log::error!(key, reason = "limits"; "limits: {change}, because all together do not fit; mend the file and restart");
    }
    let list: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let list = if list.is_empty() {
        "what is stored leaves no room to lower them".to_owned()
    } else {
        list.join(", ")
    };
    Some(format!("limits of the configuration do not fit together: {list}; `gateway-daemon check` says why"))
}

/// What was stored under the larger defaults of former versions stays.
fn keep_former_defaults(plan: &mut Plan, stored: &Stored) {
    const QUEUE_BYTES_MAX: u64 = 256_000_000;
    const STORED_BYTES_TOTAL_MAX: u64 = 512 << 20;
    for (uplink, held) in plan.uplinks.iter_mut().zip(&stored.uplinks).filter(|(uplink, _)| !uplink.said) {
        uplink.bytes_max = uplink.bytes_max.max((*held).min(QUEUE_BYTES_MAX));
    }
    if let Some(limits) = &mut plan.broker
        && !plan.said.contains(&"stored_bytes_total_max")
    {
        let held = stored.local_bytes.min(STORED_BYTES_TOTAL_MAX);
        limits.stored_bytes_total_max = limits.stored_bytes_total_max.max(held);
    }
}

fn put(config: &mut Config, plan: &Plan) {
    if let (Some(broker), Some(limits)) = (&mut config.broker, plan.broker) {
        broker.limits = limits;
    }
    for ((settings, link), share) in config.uplinks.iter_mut().zip(&plan.uplinks) {
        settings.limits.bytes_max = share.bytes_max;
        link.packet_bytes_max = u32::try_from(share.packet_bytes_max).unwrap_or(link.packet_bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_config::{Environment, load, load_installed};

    use super::*;

    const UNFIT: &str = "[gateway]\nid = \"gw\"\n[store]\nfile_max = \"100MB\"\n[broker.limits]\npacket_max = \"268MB\"\n\
        [uplink.a]\nurl = \"mqtt://a\"\nqueue = { bytes_max = \"300MB\" }\n[uplink.b]\nurl = \"mqtt://b\"\n";

    fn read(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn installed(file: &Path) -> Config {
        load_installed(file, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}")).0
    }

    #[test]
    fn a_file_that_ran_before_runs_with_limits_that_fit_and_is_refused_when_it_is_new() {
        let (_folder, file) = read(UNFIT);
        let problems = load(&file, &Environment::default()).unwrap_err();
        let texts: Vec<_> = problems.list.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains("memory_max")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("file_max")), "{texts:?}");
        let mut config = installed(&file);
        let fault = fit(&mut config, &Stored { uplinks: vec![0, 0], ..Stored::default() }).expect("a fault");
        for part in ["`packet_max`", "`queue.bytes_max` of [uplink.a]"] {
            assert!(fault.contains(part), "{fault}");
        }
        let limits = config.broker.as_ref().unwrap().limits;
        let mut plan = config.plan.clone();
        plan.broker = Some(limits);
        for (share, (settings, _)) in plan.uplinks.iter_mut().zip(&config.uplinks) {
            share.bytes_max = settings.limits.bytes_max;
        }
        assert!(plan.memory().fits(), "{}", plan.memory());
        assert!(plan.disk().fits(), "{}", plan.disk());
    }

    #[test]
    fn what_an_uplink_has_stored_under_the_former_default_is_not_dropped_by_the_smaller_one() {
        let (_folder, file) = read(
            "[gateway]\nid = \"gw\"\n[broker]\n[uplink.a]\nurl = \"mqtt://a\"\n[uplink.b]\nurl = \"mqtt://b\"\n",
        );
        let mut config = installed(&file);
        assert!(config.uplinks[0].0.limits.bytes_max < 150_000_000);
        let (held, local) = (250_000_000, 100 << 20);
        // The default is what is lowered, and no fault: the file is right.
        let stored = Stored { uplinks: vec![held, 0], local_bytes: local, ..Stored::default() };
        assert_eq!(fit(&mut config, &stored), None);
        assert!(config.uplinks[0].0.limits.bytes_max >= held, "{:?}", config.uplinks[0].0.limits);
        assert!(config.uplinks[1].0.limits.bytes_max < 140_000_000, "{:?}", config.uplinks[1].0.limits);
        assert!(config.broker.unwrap().limits.stored_bytes_total_max >= local);
    }

    #[test]
    fn of_a_file_that_fits_nothing_is_told() {
        let (_folder, file) = read("[gateway]\nid = \"gw\"\n[broker]\n[uplink.a]\nurl = \"mqtt://a\"\n");
        let mut config = installed(&file);
        let before = config.clone();
        assert_eq!(fit(&mut config, &Stored { uplinks: vec![0], ..Stored::default() }), None);
        assert_eq!(config, before);
    }
}
