use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use drivers::bus::{self, Orders};
use gateway_config::{Environment, parse};
use gateway_core::broker::{Broker, Limits};
use gateway_core::poll::request::{Answer, LineFault};
use gateway_core::poll::schedule::{Step, Ticket};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootNs, Cycle};
use gateway_core::uplink::row::{Seq, StoreEvent, StoreFault, StoreOp};
use tokio::net::TcpListener;

use super::*;
use crate::cli::exit;
use crate::listen::serve;
use crate::status::journal;
use crate::store::Store;

/// Names the place of the panic for the child process.
const CHILD: &str = "TIDEGATE_PANIC_CHILD";
/// What a child that lives on ends with.
const ALIVE: i32 = 5;

/// The real time a child may take at most; nothing here waits that long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// Orders with a fault in the program.
pub(crate) struct Broken;

impl Orders for Broken {
    fn next(&mut self, _: BootNs) -> Step {
        panic!("a broken schedule");
    }

    fn answered(&mut self, _: BootNs, _: Ticket, _: Result<Answer, LineFault>) {}

    fn bus_down(&mut self, _: BootNs) {}

    fn bus_up(&mut self, _: BootNs) {}

    fn take_cycles(&mut self) -> Vec<Cycle> {
        Vec::new()
    }
}

/// Panics where it is told, as the child of the tests below; does nothing without being told.
#[test]
fn a_child_panics_where_it_is_told() {
    let Ok(place) = std::env::var(CHILD) else { return };
    journal::init(log::LevelFilter::Info, || BootNs(1), || None);
    end_process_with(exit::FAULT);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let case = async {
            match place.as_str() {
                "core loop" => panic!("two and two is {}", 5),
                "task" => drop(tokio::spawn(async { panic!("a task") })),
                "thread" => drop(tokio::task::spawn_blocking(|| panic!("a thread"))),
                "listener" => listener().await,
                "bus" => return bus().await,
                "store" => return store().await,
                "nested" => return nested().await,
                other => panic!("no case {other}"),
            }
            std::future::pending().await
        };
        tokio::time::timeout(DEADLINE, case).await.unwrap();
    });
    std::process::exit(ALIVE);
}

/// The clock of a listener's task breaks.
async fn listener() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = Broker::in_memory(Limits::default());
    let server = serve(socket, broker, || panic!("a broken clock"), Box::new(|_, _, _| ())).unwrap();
    // Its first client makes the task look at the clock.
    std::mem::forget(tokio::net::TcpStream::connect(server.addr()).await.unwrap());
    std::mem::forget(server);
}

async fn bus() {
    let text = "[gateway]\nid = \"g\"\n[bus.a]\ndriver = \"sim\"\n[device.d]\nbus = \"a\"\nunit = 1\n[[device.d.poll]]\nevery = \"1s\"\ntags.t = { holding = 0, type = \"u16\" }\n";
    let (config, _) = parse(text, "a.toml", std::path::Path::new("/"), &Environment::default()).unwrap();
    let (cycles, _taken) = tokio::sync::mpsc::channel(8);
    let start = |task| tokio::spawn(Contained::new("a bus task", task));
    let bus = bus::spawn_by(&Arc::new(config.field), 0, Broken, cycles, start).unwrap();
    while !bus.has_ended() {
        tokio::task::yield_now().await;
    }
}

async fn store() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { path: folder.path().join("q.db"), file_bytes_max: 16 << 20 };
    let store = Store::open(&settings).await;
    let (queue, _) = store.open_queue("cloud").await;
    store.panic().await;
    // What waited in the same batch went with it, and hears of a fault.
    store.queues().await;
    let fetch = StoreOp::Fetch { op: 1, after: Seq(0), until: Seq(9), rows_max: 1, bytes_max: 100 };
    let event = store.apply(queue, fetch).await;
    assert!(
        !matches!(event, StoreEvent::Failed { fault: StoreFault::Io, .. }),
        "answered by a writer: {event:?}"
    );
    store.close().await.unwrap();
}

/// Who has left what is contained is not contained any more.
async fn nested() {
    let contained = Contained::new("the outer", async {
        contain("the inner", || ());
        tokio::task::yield_now().await;
        panic!("the outer");
    });
    assert!(tokio::spawn(contained).await.is_err());
    // On whichever thread that was.
    for _ in 0..16 {
        tokio::spawn(async { assert_eq!(CONTAINED.get(), None) }).await.unwrap();
    }
}

/// Exit code and log of a child.
fn child(place: &str) -> (Option<i32>, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "panics::tests::a_child_panics_where_it_is_told", "--nocapture"]);
    let output =
        child.env(CHILD, place).env_remove("JOURNAL_STREAM").env_remove("RUST_BACKTRACE").output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn ends_the_process(place: &str, what: &str) {
    let (code, log) = child(place);
    assert_eq!(code, Some(i32::from(exit::FAULT)), "{log}");
    assert!(log.contains("src/panics/tests.rs:") && log.contains(what), "{log}");
    assert!(log.contains("the program ends by a fault of its own"), "{log}");
    assert_eq!(log.matches(what).count(), 1, "told once: {log}");
}

#[track_caller]
fn ends_alone(place: &str, room: &str, what: &str) {
    let (code, log) = child(place);
    assert_eq!(code, Some(ALIVE), "{log}");
    assert!(
        log.contains(room) && log.contains("ended by a fault of this program") && log.contains(what),
        "{log}"
    );
    assert!(log.contains("src/"), "the place is told: {log}");
}

#[test]
fn a_task_that_panics_ends_the_process_at_once_with_its_reason() {
    ends_the_process("task", "a task");
    ends_the_process("core loop", "two and two is 5");
    ends_the_process("thread", "a thread");
}

#[test]
fn a_listener_task_that_panics_ends_the_process_at_once_with_its_reason() {
    ends_the_process("listener", "a broken clock");
}

#[test]
fn a_bus_task_that_panics_ends_alone() {
    ends_alone("bus", "a bus task", "a broken schedule");
}

#[test]
fn a_panic_in_the_thread_of_the_store_ends_its_transaction_and_the_database_is_opened_again() {
    ends_alone("store", "the store's writer", "asked for by a test");
}

#[test]
fn what_is_done_after_something_contained_is_not_contained() {
    ends_alone("nested", "the outer", "the outer");
}
