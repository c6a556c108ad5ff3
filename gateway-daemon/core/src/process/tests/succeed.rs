//! What a processor of another configuration goes on with.

use std::time::Duration;

use super::{ALWAYS, cycle, field, filtered, int, name, s, tag, u16_tag};
use crate::poll::settings::{self as poll, Bus, Connection, Kind, Medium};
use crate::process::Processor;
use crate::process::settings::{Deadband, Filter};
use crate::tag::{Reason, Sample};

const CLOSE: Deadband = Deadband::Absolute(10.0);

fn on_a_bus(tags: Vec<poll::Tag>) -> poll::Settings {
    let medium = Medium::Tcp {
        host: "m".into(),
        port: 502,
        pipeline: 1,
        connect_timeout: Duration::from_secs(1),
        connect_pause: Duration::ZERO,
        connection: Connection::Keep,
    };
    let bus = Bus { name: name("line"), medium, probe_share: 0.05, fences: true, pause: Duration::ZERO };
    poll::Settings { buses: vec![bus], ..field(tags) }
}

fn named(text: &str, tag: poll::Tag) -> poll::Tag {
    poll::Tag { name: name(text), ..tag }
}

/// A processor that has reported 100 of one tag, and its field.
fn at_work(tag: poll::Tag) -> (poll::Settings, Processor) {
    let before = on_a_bus(vec![tag]);
    let mut processor = Processor::new(&before, s(0.0));
    assert_eq!(cycle(&mut processor, s(1.0), &[int(100)]).len(), 1);
    (before, processor)
}

#[test]
fn a_deadband_goes_on_where_the_tag_stands_elsewhere_in_the_list() {
    let (before, processor) = at_work(named("level", filtered(CLOSE)));
    let after = on_a_bus(vec![named("other", u16_tag()), named("level", filtered(CLOSE))]);
    let mut next = processor.succeed(&before, &after, true, s(2.0));
    assert_eq!(
        cycle(&mut next, s(3.0), &[int(7), int(105)]),
        [(0, int(7))],
        "105 is within 10 of what was told"
    );
    assert_eq!(cycle(&mut next, s(4.0), &[int(7), int(111)]), [(0, int(7)), (1, int(111))]);
}

#[test]
fn a_consumer_that_knows_nothing_yet_is_told_every_tag_once() {
    let (before, processor) = at_work(named("level", filtered(CLOSE)));
    let mut next = processor.succeed(&before, &before, false, s(2.0));
    assert_eq!(cycle(&mut next, s(3.0), &[int(101)]), [(0, int(101))]);
    assert_eq!(cycle(&mut next, s(4.0), &[int(102)]), []);
}

#[test]
fn a_tag_with_other_settings_begins_anew() {
    let (before, processor) = at_work(named("level", filtered(CLOSE)));
    for changed in [
        filtered(Deadband::Absolute(20.0)),
        poll::Tag { filter: Filter { deadband: CLOSE, ..ALWAYS }, ..tag(Kind::U16 { swap: true }) },
    ] {
        let after = on_a_bus(vec![named("level", changed)]);
        let mut next = processor.succeed(&before, &after, true, s(2.0));
        assert_eq!(cycle(&mut next, s(3.0), &[int(101)]).len(), 1);
    }
}

#[test]
fn staleness_counts_from_the_last_reading_before_the_change() {
    let stale = named("level", poll::Tag { filter: Filter { stale_after: 3, ..ALWAYS }, ..u16_tag() });
    let (before, processor) = at_work(stale);
    let mut next = processor.succeed(&before, &before, true, s(2.0));
    let due = next.poll_timeout().unwrap();
    assert_eq!(
        due,
        s(4.5),
        "three periods and a half after the reading at 1 s: a reload gives no time as a present"
    );
    let told: Vec<_> = next.timeout(due).into_iter().flat_map(|report| report.readings).collect();
    assert!(matches!(&told[..], [reading] if reading.sample == Sample::Bad(Reason::Stale)), "{told:?}");
}
