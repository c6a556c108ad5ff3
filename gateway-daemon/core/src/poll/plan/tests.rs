use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::poll::request::Table;
use crate::poll::settings::{Kind, Medium, Order4, Order8, Point, Rs485, Serial, Settings};
use crate::poll::testing::{Build, holding};

fn span(table: Table, start: u32, length: u32) -> Span {
    Span { table, start, end: start + length, refused: false }
}

fn registers(list: &[(u32, u32)]) -> Vec<Span> {
    list.iter().map(|&(start, length)| span(Table::Holding, start, length)).collect()
}

fn limits(registers_max: u16, gap_max: u16) -> Limits {
    Limits { registers_max, bits_max: 2000, gap_max, one_by_one: false }
}

/// Blocks as (address, count).
fn check(spans: &[Span], limits: &Limits, expected: &[(u16, u16)]) {
    let got: Vec<(u16, u16)> =
        blocks(spans, limits).iter().map(|block| (block.address, block.count)).collect();
    assert_eq!(got, expected);
}

#[test]
fn neighbours_share_a_request() {
    check(&registers(&[(4, 2), (0, 1), (1, 2), (3, 1)]), &limits(125, 0), &[(0, 6)]);
}

#[test]
fn a_gap_is_filled_up_to_its_limit() {
    check(&registers(&[(0, 1), (9, 1)]), &limits(125, 8), &[(0, 10)]);
    check(&registers(&[(0, 1), (10, 1)]), &limits(125, 8), &[(0, 1), (10, 1)]);
}

#[test]
fn bits_have_sixteen_times_the_gap() {
    let coils = [span(Table::Coil, 0, 1), span(Table::Coil, 129, 1), span(Table::Coil, 259, 1)];
    check(&coils, &limits(125, 8), &[(0, 130), (259, 1)]);
}

#[test]
fn a_point_of_many_registers_is_never_split() {
    check(&registers(&[(0, 3), (3, 4)]), &limits(5, 8), &[(0, 3), (3, 4)]);
    check(&registers(&[(0, 20)]), &limits(5, 8), &[(0, 20)]);
}

#[test]
fn tables_are_never_mixed() {
    let spans = [span(Table::Holding, 0, 1), span(Table::Input, 1, 1), span(Table::Holding, 2, 1)];
    check(&spans, &limits(125, 8), &[(0, 3), (1, 1)]);
}

#[test]
fn one_by_one_still_reads_the_bits_of_a_register_together() {
    let limits = Limits { one_by_one: true, ..limits(125, 8) };
    check(&registers(&[(7, 1), (6, 1), (7, 1), (8, 2)]), &limits, &[(6, 1), (7, 1), (8, 2)]);
}

#[test]
fn a_refused_point_is_asked_alone_and_not_read_over() {
    let mut spans = registers(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
    spans[1].refused = true;
    check(&spans, &limits(125, 8), &[(0, 1), (1, 1), (2, 2)]);
}

#[test]
fn the_highest_address_is_reachable() {
    check(&registers(&[(65535, 1), (65533, 2)]), &limits(125, 8), &[(65533, 3)]);
}

/// Whether one request may hold exactly these points of a list.
fn allowed(all: &[Span], chosen: &[Span], limits: &Limits) -> bool {
    let table = chosen[0].table;
    let start = chosen.iter().map(|span| span.start).min().unwrap();
    let end = chosen.iter().map(|span| span.end).max().unwrap();
    let mut run = 0;
    for address in start..end {
        let hit = all.iter().any(|span| span.table == table && (span.start..span.end).contains(&address));
        run = if hit { 0 } else { run + 1 };
        if run > limits.gap_max(table) {
            return false;
        }
    }
    let whole = chosen.iter().any(|span| (span.start, span.end) == (start, end));
    chosen.iter().all(|span| span.table == table) && (end - start <= limits.length_max(table) || whole)
}

/// Fewest blocks by trying every set of points that holds the first one left.
fn fewest_by_force(all: &[Span], left: &[Span], limits: &Limits) -> usize {
    let Some((head, tail)) = left.split_first() else { return 0 };
    let mut best = usize::MAX;
    for mask in 0..1_u32 << tail.len() {
        let (mut chosen, mut rest) = (vec![*head], Vec::new());
        for (index, span) in tail.iter().enumerate() {
            if mask & (1 << index) == 0 { rest.push(*span) } else { chosen.push(*span) }
        }
        if allowed(all, &chosen, limits) {
            best = best.min(1 + fewest_by_force(all, &rest, limits));
        }
    }
    best
}

fn any_span() -> impl Strategy<Value = Span> {
    let table = prop_oneof![3 => Just(Table::Holding), 1 => Just(Table::Input)];
    (table, 0_u32..24, 1_u32..5).prop_map(|(table, start, length)| span(table, start, length))
}

proptest! {
    #[test]
    fn greedy_needs_as_few_requests_as_brute_force(
        spans in prop::collection::vec(any_span(), 0..7),
        registers_max in 1_u16..10,
        gap_max in 0_u16..5,
    ) {
        let limits = limits(registers_max, gap_max);
        prop_assert_eq!(blocks(&spans, &limits).len(), fewest_by_force(&spans, &spans, &limits));
    }

    #[test]
    fn every_point_is_whole_in_exactly_one_block_of_its_table(
        spans in prop::collection::vec((any_span(), any::<bool>()), 0..40),
        registers_max in 1_u16..10,
        gap_max in 0_u16..5,
        one_by_one: bool,
    ) {
        let spans: Vec<Span> = spans.into_iter().map(|(span, refused)| Span { refused, ..span }).collect();
        let limits = Limits { one_by_one, ..limits(registers_max, gap_max) };
        let mut seen = vec![0; spans.len()];
        for block in blocks(&spans, &limits) {
            let (start, end) = (u32::from(block.address), u32::from(block.address) + u32::from(block.count));
            let whole = |point: &u32| (spans[*point as usize].start, spans[*point as usize].end) == (start, end);
            prop_assert!(end - start <= limits.length_max(block.table) || block.points.iter().any(whole));
            for &point in &block.points {
                let span = spans[point as usize];
                seen[point as usize] += 1;
                prop_assert!(span.table == block.table && span.start >= start && span.end <= end);
            }
        }
        prop_assert!(seen.iter().all(|count| *count == 1));
    }

    #[test]
    fn cutting_ends_at_single_addresses_and_loses_no_point(
        spans in prop::collection::vec(any_span(), 1..20),
        gap_max in 0_u16..5,
    ) {
        let mut open = blocks(&spans, &limits(125, gap_max));
        let mut points = 0;
        while let Some(block) = open.pop() {
            match block.cut(&spans) {
                Some((left, right)) => {
                    prop_assert!(!left.points.is_empty() && !right.points.is_empty());
                    open.extend([left, right]);
                }
                None => {
                    points += block.points.len();
                    let first = spans[block.points[0] as usize];
                    prop_assert!(block.points.iter().all(|point| spans[*point as usize] == first));
                }
            }
        }
        prop_assert_eq!(points, spans.len());
    }
}

/// Two meters of ten registers each, every `every_ms`.
fn two_meters(baud: u32, every_ms: u64) -> Settings {
    let mut build = Build::serial(baud);
    for unit in [1, 2] {
        let device = build.device(unit);
        build.group(device, every_ms, (0..10).map(holding).collect());
    }
    build.settings
}

#[test]
fn a_cycle_costs_its_characters_and_its_silences() {
    let plan = BusPlan::new(&two_meters(9600, 1000), 0);
    let cost = plan.groups[0].cost;
    assert_eq!((cost.requests, cost.registers, cost.out_bytes, cost.in_bytes), (1, 10, 8, 25));
    // 8 + 25 characters and twice 3.5 of silence, 11 bits each with even parity.
    let chars = 8 + 25 + 7;
    let expected = Duration::from_nanos(chars * 11 * 1_000_000_000 / 9600);
    let got = cost.least.unwrap();
    assert!(got.abs_diff(expected) < Duration::from_nanos(10), "{got:?} {expected:?}");
    assert!(plan.fits());
    assert!((plan.share.unwrap() - 2.0 * 0.045_833).abs() < 1e-4);
}

#[test]
fn every_part_of_a_read_adds_to_its_cost() {
    let mut build = Build::serial(9600);
    let device = build.device(1);
    build.group(device, 1000, (0..10).map(holding).collect());
    let mut settings = build.settings;
    let asked = |settings: &Settings| {
        let cost = BusPlan::new(settings, 0).groups[0].cost;
        (cost.least.unwrap(), cost.silent.unwrap())
    };
    let ms = Duration::from_millis;
    let Medium::Serial(serial) = settings.buses[0].medium.clone() else { panic!("a serial bus") };
    // The silence before the request, its 8 characters, and then nothing for the whole timeout; or the silence that ends it and 25 characters.
    let request = serial.frame_silence() + serial.chars(8);
    let before = (request + serial.frame_silence() + serial.chars(25), request + settings.devices[0].timeout);
    assert_eq!(asked(&settings), before);
    settings.buses[0].pause = ms(3);
    settings.devices[0].delay_before = ms(5);
    let rs485 = Rs485 { rts_on_send: true, delay_before_ms: 7, delay_after_ms: 11, rx_during_tx: false };
    settings.buses[0].medium = Medium::Serial(Serial { rs485: Some(rs485), ..serial });
    let more = ms(3 + 5 + 7 + 11);
    assert_eq!(asked(&settings), (before.0 + more, before.1 + more));
}

#[test]
fn bits_cost_a_byte_for_each_eight_and_one_for_the_rest() {
    for (bits, bytes) in [(1, 1), (8, 1), (9, 2), (17, 3)] {
        let mut build = Build::serial(9600);
        let device = build.device(1);
        let coil = |address| Point { table: Table::Coil, address, kind: Kind::Bit };
        build.group(device, 1000, (0..bits).map(coil).collect());
        let cost = BusPlan::new(&build.settings, 0).groups[0].cost;
        assert_eq!(
            (cost.bits, cost.registers, cost.in_bytes),
            (u32::from(bits), 0, 5 + bytes),
            "{bits} bits"
        );
    }
}

#[test]
fn costs_of_two_reads_are_added() {
    let plan = BusPlan::new(&two_meters(9600, 1000), 0);
    let (one, other) = (plan.groups[0].cost, plan.groups[1].cost);
    let both = one.plus(other);
    assert_eq!((both.requests, both.registers, both.out_bytes, both.in_bytes), (2, 20, 16, 50));
    assert_eq!(both.least.unwrap(), one.least.unwrap() + other.least.unwrap());
    assert_eq!(both.silent.unwrap(), one.silent.unwrap() + other.silent.unwrap());
    assert_eq!(both.plus(Cost { least: None, silent: None, ..one }).least, None, "a speed is not known");
}

#[test]
fn an_impossible_schedule_says_by_how_much_and_what_to_do() {
    let settings = two_meters(9600, 80);
    let plan = BusPlan::new(&settings, 0);
    assert!(!plan.fits());
    let Problem::TooMuch { share, advice, .. } = &plan.problems[0] else { panic!("{:?}", plan.problems) };
    assert!((share - 1.1458).abs() < 1e-3);
    assert!(advice.contains(&Advice::Baud { baud: 19_200 }), "{advice:?}");
    let Some(Advice::SlowerGroup { group, every }) =
        advice.iter().find(|advice| matches!(advice, Advice::SlowerGroup { .. }))
    else {
        panic!("{advice:?}")
    };
    let mut slower = settings.clone();
    slower.groups[group.0 as usize].every = *every;
    assert!(BusPlan::new(&slower, 0).fits());
    assert_eq!(
        BusPlan::render(std::slice::from_ref(&plan), &settings),
        "\
bus     device  group  every  requests  registers  bytes out  bytes in  ms per cycle  of period
line-0  unit-1  1      80 ms         1         10          8        25          45.8     57.3 %
line-0  unit-2  1      80 ms         1         10          8        25          45.8     57.3 %

line-0: 9600 baud 8E1, 25.0 requests/s, at least 114.6 % of the line (devices that answer at once; how long they \
really think is not known); while a device is silent, its cycle takes up to 513 ms plus retries
  does not fit: the requests need 114.6 % of the time there is, 14.6 % too much; group unit-2/1 costs most; to do: \
every = \"110ms\" for group unit-2/1, or baud = 19200
"
    );
}

#[test]
fn a_gap_limit_that_saves_time_is_advised() {
    let mut build = Build::serial(9600);
    let device = build.device(1);
    build.settings.devices[device].gap_max = 0;
    build.group(device, 100, (0..10).map(|n| holding(n * 2)).collect());
    let plan = BusPlan::new(&build.settings, 0);
    let Problem::TooMuch { advice, .. } = &plan.problems[0] else { panic!("{:?}", plan.problems) };
    let Advice::Gap { gap_max, share, .. } = advice[0] else { panic!("{advice:?}") };
    assert_eq!(gap_max, 1);
    build.settings.devices[device].gap_max = 1;
    let share_with = BusPlan::new(&build.settings, 0).share.unwrap();
    assert!((share - share_with).abs() < 1e-9 && share < 1.0);
}

proptest! {
    #[test]
    fn whoever_follows_an_advice_that_is_enough_alone_gets_a_plan_that_fits(
        baud in prop::sample::select(vec![1200_u32, 9600, 19_200, 115_200]),
        groups in prop::collection::vec((5_u64..500, 1_u16..60, 1_u16..5), 1..6),
    ) {
        let mut build = Build::serial(baud);
        let device = build.device(1);
        for (every, points, step) in groups {
            build.group(device, every, (0..points).map(|n| holding(n * step)).collect());
        }
        let plan = BusPlan::new(&build.settings, 0);
        prop_assert!(!BusPlan::render(std::slice::from_ref(&plan), &build.settings).is_empty());
        let Some(Problem::TooMuch { advice, share, .. }) = plan.problems.first() else { return Ok(()) };
        prop_assert!(*share > 1.0);
        for advice in advice {
            let mut followed = build.settings.clone();
            match advice {
                Advice::SlowerGroup { group, every } => followed.groups[group.0 as usize].every = *every,
                Advice::SlowerAll { factor } => {
                    followed.groups.iter_mut().for_each(|group| group.every = group.every.mul_f64(*factor));
                }
                Advice::Baud { baud } => {
                    let Medium::Serial(serial) = &mut followed.buses[0].medium else { continue };
                    serial.baud = *baud;
                }
                Advice::Gap { device, gap_max, share } => {
                    followed.devices[*device].gap_max = *gap_max;
                    let got = BusPlan::new(&followed, 0).share.unwrap();
                    prop_assert!((got - share).abs() < 1e-9 && got < plan.share.unwrap());
                    continue;
                }
            }
            let after = BusPlan::new(&followed, 0);
            prop_assert!(after.share.unwrap() <= 1.0 + 1e-9, "{:?}: {:?}", advice, after.share);
        }
    }
}

#[test]
fn a_fast_group_behind_a_long_request_is_remarked() {
    let mut build = Build::serial(9600);
    let device = build.device(1);
    build.group(device, 200, vec![holding(0)]);
    build.group(device, 10_000, (0..120).map(holding).collect());
    let plan = BusPlan::new(&build.settings, 0);
    assert!(plan.fits());
    assert!(matches!(plan.remarks[..], [Remark::Blocked { .. }]), "{:?}", plan.remarks);
}

#[test]
fn tcp_has_bytes_but_no_time() {
    let mut build = Build::tcp(4);
    let device = build.device(1);
    build.group(device, 1, (0..125).map(holding).collect());
    let plan = BusPlan::new(&build.settings, 0);
    assert!(plan.fits() && plan.share.is_none());
    assert_eq!((plan.groups[0].cost.out_bytes, plan.groups[0].cost.in_bytes), (12, 259));
    build.settings.groups[0].every = Duration::from_micros(10);
    assert!(matches!(BusPlan::new(&build.settings, 0).problems[..], [Problem::TooManyRequests { .. }]));
}

#[test]
fn a_point_longer_than_a_request_is_a_problem() {
    let mut build = Build::serial(9600);
    let device = build.device(1);
    build.settings.devices[device].registers_max = 2;
    let long = crate::poll::settings::Point { kind: Kind::U64(Order8::Abcdefgh), ..holding(0) };
    let beyond = crate::poll::settings::Point { kind: Kind::U32(Order4::Abcd), ..holding(65535) };
    build.group(device, 1000, vec![long, beyond]);
    let plan = BusPlan::new(&build.settings, 0);
    assert!(matches!(
        plan.problems[..],
        [
            Problem::PointTooLong { tag: 0, registers: 4, registers_max: 2 },
            Problem::PointBeyondEnd { tag: 1 }
        ]
    ));
}
