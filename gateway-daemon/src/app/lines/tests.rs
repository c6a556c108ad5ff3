use std::path::Path;

use gateway_config::{Environment, parse};

use super::*;
use crate::panics::tests::Broken;

fn field() -> Field {
    let text = "[gateway]\nid = \"g\"\n[bus.a]\ndriver = \"sim\"\n[device.d]\nbus = \"a\"\nunit = 1\n[[device.d.poll]]\nevery = \"1s\"\ntags.t = { holding = 0, type = \"u16\" }\n";
    parse(text, "a.toml", Path::new("/"), &Environment::default()).unwrap().0.field
}

#[tokio::test]
async fn a_bus_task_that_panics_is_started_again_at_the_next_look_and_polls() {
    let (cycles, mut polled) = mpsc::channel(16);
    let mut lines = Lines::start(&field(), cycles.clone()).unwrap();
    let outlet = Outlet { id: lines.list[0].id, cycles };
    let part = &lines.list[0].part;
    lines.list[0].bus = Some(bus::spawn_by(&part.field, 0, Broken, outlet, start).unwrap());
    while !lines.list[0].bus.as_ref().unwrap().has_ended() {
        tokio::task::yield_now().await;
    }
    while polled.try_recv().is_ok() {}
    lines.revive();
    assert_eq!(lines.list[0].restarts, 1);
    let (id, cycle) = polled.recv().await.unwrap();
    assert!(lines.cycle(id, cycle).is_some(), "read with the numbers of the same bus");
    lines.revive();
    assert_eq!(lines.list[0].restarts, 1, "one that runs is left alone");
    lines.stop_all().await;
}
