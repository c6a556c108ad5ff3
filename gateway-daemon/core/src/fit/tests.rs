use super::*;

const DEFAULT_FILE: u64 = 512_000_000;

fn uplink(name: &str, bytes_max: u64, said: bool) -> UplinkShare {
    UplinkShare { name: name.into(), bytes_max, said, packet_bytes_max: 256_000 }
}

/// A file with nothing in it but `[broker]` and so many uplinks.
fn plain(uplinks: usize) -> Plan {
    let unsaid = |index: usize| uplink(&format!("u{index}"), crate::uplink::settings::BYTES_MAX, false);
    Plan {
        memory_bytes_max: memory_bytes_max(uplinks),
        memory_said: false,
        file_bytes_max: DEFAULT_FILE,
        broker: Some(Limits::default()),
        said: Vec::new(),
        tls_listeners: 1,
        handshaking_listeners: 1,
        hash_bytes: HASH_BYTES_MIN,
        uplinks: (0..uplinks).map(unsaid).collect(),
        buses: 0,
    }
}

fn fitted(mut plan: Plan) -> Plan {
    plan.lower(false, &Stored::default());
    plan
}

#[test]
fn whoever_sets_no_limit_has_a_file_that_fits_with_any_number_of_uplinks_and_listeners() {
    for uplinks in 0..=8 {
        for listeners in 0..=16 {
            for buses in [1, 64, 256] {
                let handshaking_listeners = listeners;
                let plan = Plan { tls_listeners: listeners, handshaking_listeners, buses, ..plain(uplinks) };
                let plan = fitted(plan);
                assert!(plan.memory().fits(), "{uplinks} {listeners} {buses}: {}", plan.memory());
                assert!(plan.disk().fits(), "{uplinks} {listeners} {buses}: {}", plan.disk());
                assert!(plan.uplinks.iter().all(|up| up.bytes_max >= 15_000_000), "{:?}", plan.uplinks);
            }
        }
    }
}

#[test]
fn sixty_four_buses_cost_nothing_beside_the_program_and_each_more_its_memory() {
    let needed = |buses| Plan { buses, ..plain(1) }.memory().total();
    assert_eq!(needed(1), needed(64));
    assert_eq!(needed(256) - needed(64), 192 * BUS_BYTES);
}

#[test]
fn in_a_small_file_readings_keep_their_part_and_local_clients_give_way() {
    for (file_bytes_max, least) in
        [(16_000_000, 2_000_000), (64_000_000, 8_000_000), (256_000_000, 35_000_000)]
    {
        let plan = fitted(Plan { file_bytes_max, ..plain(1) });
        assert!(plan.disk().fits(), "{}", plan.disk());
        assert!(plan.uplinks[0].bytes_max >= least, "{file_bytes_max}: {:?}", plan.uplinks);
    }
}

#[test]
fn the_defaults_hold_with_one_tls_listener_and_one_uplink_as_they_are() {
    let mut plan = plain(1);
    let changes = plan.lower(false, &Stored::default());
    assert!(changes.iter().all(|change| change.bytes), "{changes:?}");
    let limits = plan.broker.unwrap();
    assert_eq!(limits.connections_max, Limits::default().connections_max);
    assert!(limits.queued_bytes_total_max >= 4 << 20, "{changes:?}");
}

#[test]
fn sessions_and_uplinks_never_need_more_than_the_file_whatever_the_file_says() {
    for file_bytes_max in [4_000_000, 16_000_000, 64_000_000, DEFAULT_FILE, 8_000_000_000] {
        for sessions in [1 << 20, 64 << 20, 537_000_000, 1 << 40] {
            for queue in [1_000_000, 256_000_000, 1 << 40] {
                let mut plan = Plan { file_bytes_max, ..plain(2) };
                plan.broker.as_mut().unwrap().stored_bytes_total_max = sessions;
                plan.said = vec!["stored_bytes_total_max"];
                plan.uplinks = vec![uplink("a", queue, true), uplink("b", queue, true)];
                let wrong = !fitted(plan.clone()).disk().fits();
                let changes = plan.lower(true, &Stored::default());
                assert!(plan.disk().fits(), "{file_bytes_max} {sessions} {queue}: {}", plan.disk());
                assert!(!wrong || !changes.is_empty());
            }
        }
    }
}

#[test]
fn nothing_is_lowered_below_what_is_stored() {
    let mut plan = plain(2);
    plan.uplinks = vec![uplink("a", 1_000_000_000, true), uplink("b", 1_000_000_000, true)];
    plan.broker.as_mut().unwrap().retained_bytes_max = 500 << 20;
    plan.broker.as_mut().unwrap().sessions_max = 100_000;
    let stored = Stored {
        local_bytes: 40 << 20,
        sessions: 20_000,
        subscriptions: 30_000,
        retained_bytes: 100 << 20,
        uplinks: vec![700_000_000, 5],
    };
    plan.lower(true, &stored);
    let limits = plan.broker.unwrap();
    assert!(limits.stored_bytes_total_max >= stored.local_bytes);
    assert!(limits.retained_bytes_max as u64 >= stored.retained_bytes);
    assert!(limits.sessions_max as u64 >= stored.sessions);
    // What was smaller than what is stored before stays what it was.
    assert_eq!(limits.subscriptions_max, Limits::default().subscriptions_max);
    assert!(plan.uplinks[0].bytes_max >= stored.uplinks[0]);
    assert!(plan.uplinks[1].bytes_max < 1_000_000_000);
}

#[test]
fn one_limit_that_is_too_large_gives_way_alone() {
    type Enlarge = fn(&mut Limits);
    let cases: [(&str, Enlarge); 5] = [
        ("packet_max", |l| l.packet_bytes_max = 268_000_000),
        ("connections_max", |l| l.connections_max = 100_000),
        ("queued_bytes_total_max", |l| l.queued_bytes_total_max = 900 << 20),
        ("subscriptions_max", |l| l.subscriptions_max = 1_000_000),
        ("retained_bytes_max", |l| l.retained_bytes_max = 900 << 20),
    ];
    for (key, raise) in cases {
        let mut plan = Plan { tls_listeners: 0, handshaking_listeners: 0, ..plain(0) };
        raise(plan.broker.as_mut().unwrap());
        plan.said = vec![key];
        let text = plan.memory().to_string();
        assert!(!plan.memory().fits() && text.contains(key), "{key}: {text}");
        assert!(!fitted(plan.clone()).memory().fits(), "{key} is what the file says");
        let changes = plan.lower(true, &Stored::default());
        assert!(plan.memory().fits(), "{key}: {}", plan.memory());
        assert!(changes.iter().any(|change| change.key.contains(key)), "{key}: {changes:?}");
        let others = changes.iter().filter(|change| !change.key.contains(key) && !change.bytes);
        assert_eq!(others.count(), 0, "{key}: {changes:?}");
    }
}

#[test]
fn process_and_kernel_together_take_less_than_a_third_of_a_board_of_512_mb() {
    let plan = fitted(plain(2));
    // With the free memory between what is used, which no limit covers.
    let process = 128 << 20;
    assert!(plan.memory().total() <= process && plan.kernel_bytes() == 28 << 20);
    assert!(process + plan.kernel_bytes() < 512_000_000 / 3);
    let mut few = plain(2);
    few.broker.as_mut().unwrap().connections_max = 50;
    assert_eq!(few.kernel_bytes(), 50 * 2 * SOCKET_BYTES, "as much as each may have");
    assert_eq!(Plan { broker: None, ..plain(2) }.kernel_bytes(), 0);
}

#[test]
fn a_sentence_names_the_largest_parts_and_what_to_do() {
    let mut plan = Plan { tls_listeners: 0, handshaking_listeners: 0, ..plain(0) };
    plan.broker.as_mut().unwrap().packet_bytes_max = 100 << 20;
    let text = plan.memory().to_string();
    for part in [
        "`packet_max` takes 420 MB",
        "at most `memory_max` in [gateway] = 118 MB",
        "lower the largest or raise",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn aliases_identifiers_and_filters_under_way_have_their_line() {
    let sum = plain(1).memory();
    let bytes = |what: &str| -> u64 {
        let parts = sum.parts.iter().filter(|part| part.what.contains(what));
        parts.map(|part| part.bytes).sum()
    };
    assert_eq!(bytes("topic aliases"), 1000 * 4096);
    assert_eq!(bytes("identifiers"), (32_768 + 2000 * 32) * 32);
    assert_eq!(bytes("filters of SUBSCRIBE under way"), (512 << 10) + 2 * (256 << 10));
}
