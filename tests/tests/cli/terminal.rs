//! The commands on a terminal, as a technician sees them: 80 columns and 24 lines, smaller ones, and terminals that can do little.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tidegate_tests::gateway::Gateway;
use tidegate_tests::terminal::{Ended, Sight, Terminal};

use super::SIMULATED;

/// A gateway of so many tags.
fn plant(dir: &Path, tags: usize) -> Gateway {
    let socket = format!("\"{}/control.sock\"", dir.display());
    let mut config = SIMULATED.replace("\"control.sock\"", &socket);
    for number in 0..tags - 4 {
        let _ = writeln!(
            config,
            "tags.measured-value-{number} = {{ holding = {}, type = \"u16\" }}",
            10 + number
        );
    }
    Gateway::start(dir, &config).unwrap()
}

async fn well(gateway: &mut Gateway, tags: usize) {
    let good = |now: &gateway_daemon::app::snapshot::Snapshot| {
        now.tags.len() == tags && now.tags.iter().all(|tag| tag.is_good())
    };
    gateway.wait_for("good tags", good).await.unwrap();
}

fn is_given_back(ended: &Ended) {
    let Ended { sight, is_given_back, .. } = ended;
    assert!(*is_given_back && !sight.second_screen && sight.cursor, "{ended:?}");
}

fn kept_in_place(sight: &Sight) {
    assert_eq!((sight.scrolled, sight.cut), (0, 0), "{}", sight.text());
}

#[test]
fn the_demo_shows_a_write_and_a_dead_meter_at_80_by_24_and_q_ends_it_with_a_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(dir.path(), (80, 24), &["demo"], &[]).unwrap();
    terminal.wait_for("readings", |sight| sight.text().contains("All is well. q ends the demo")).unwrap();
    terminal.wait_for("a write", |sight| sight.text().contains("oven/setpoint = 180 °C, written")).unwrap();
    terminal.wait_for("a dead meter", |sight| sight.text().contains("dead, probed")).unwrap();
    // The poll that has killed it has its own reason.
    terminal.wait_for("its tags", |sight| sight.text().contains("cellar/power device-down")).unwrap();
    let text = terminal.sight().text();
    kept_in_place(terminal.sight());
    assert!(terminal.sight().second_screen && !terminal.sight().cursor && !text.contains('…'), "{text}");
    for shown in ["TIDEGATE DEMO", " link ", "meter/voltage-1 ", "io/emergency-stop "] {
        assert!(text.contains(shown), "{shown} is not in\n{text}");
    }
    terminal.press("q").unwrap();
    let ended = terminal.end().unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.sight.text());
    assert!(ended.sight.text().contains(" arrived, 0 missing"), "{}", ended.sight.text());
    is_given_back(&ended);
}

#[test]
fn ctrl_c_ends_the_demo_as_q_does_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut terminal = Terminal::start(dir.path(), (80, 24), &["demo"], &[("TMPDIR", folder)]).unwrap();
    terminal.wait_for("readings", |sight| sight.text().contains("All is well. q ends the demo")).unwrap();
    terminal.press("\x03").unwrap();
    let ended = terminal.end().unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.sight.text());
    is_given_back(&ended);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the demo's folder is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_tags_are_drawn_in_place_and_turned_by_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = plant(dir.path(), 200);
    well(&mut gateway, 200).await;
    let args = ["tags", "--watch", "--socket", "control.sock"];
    let mut terminal = Terminal::start(dir.path(), (80, 24), &args, &[]).unwrap();
    terminal.wait_for("three pictures", |sight| sight.drawn >= 3).unwrap();
    terminal.wait_for("a whole picture", |sight| sight.text().contains("shown are 1 to 22")).unwrap();
    kept_in_place(terminal.sight());
    assert!(terminal.sight().text().contains("178 more tags"), "{}", terminal.sight().text());
    terminal.press(" ").unwrap();
    terminal.wait_for("the next page", |sight| sight.text().contains("shown are 23 to 44")).unwrap();
    terminal.press("\x1b[A").unwrap();
    terminal.wait_for("a line back", |sight| sight.text().contains("shown are 22 to 43")).unwrap();
    terminal.resize(20, 5).unwrap();
    // A full row keeps its last character.
    terminal.wait_for("a tiny picture", |sight| sight.lines()[4] == "197 more tags; show…").unwrap();
    kept_in_place(terminal.sight());
    terminal.press("q").unwrap();
    let ended = terminal.end().unwrap();
    assert_eq!(ended.code, Some(0));
    is_given_back(&ended);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_on_a_terminal_keeps_to_its_width_and_watched_keeps_the_gateway_in_view() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = plant(dir.path(), 4);
    well(&mut gateway, 4).await;
    let status = |size, more: &[&str], variables: &[(&str, &str)]| {
        let args = [&["status", "--socket", "control.sock"], more].concat();
        Terminal::start(dir.path(), size, &args, variables).unwrap()
    };
    let ended = status((80, 24), &[], &[]).end().unwrap();
    assert_eq!(ended.code, Some(0));
    assert!(ended.sent.lines().next().unwrap().contains("all is well"), "{}", ended.sent);
    assert!(ended.sight.coloured && !ended.sight.second_screen);

    let mut watched = status((80, 24), &["--watch"], &[]);
    watched.wait_for("two pictures", |sight| sight.drawn >= 2 && sight.text().contains("DEVICE")).unwrap();
    kept_in_place(watched.sight());
    assert!(watched.sight().lines()[..3].join("\n").contains("gateway gw"), "{}", watched.sight().text());
    watched.press("q").unwrap();
    is_given_back(&watched.end().unwrap());

    let mut tiny = status((20, 5), &["--watch"], &[]);
    tiny.wait_for("a tiny picture", |sight| sight.text().contains("gateway gw")).unwrap();
    kept_in_place(tiny.sight());
    tiny.press("\x03").unwrap();
    is_given_back(&tiny.end().unwrap());

    let plain = status((80, 24), &[], &[("NO_COLOR", "1")]).end().unwrap();
    assert!(!plain.sight.coloured, "{}", plain.sent);
    let dumb = status((80, 24), &[], &[("TERM", "dumb")]).end().unwrap();
    assert_eq!(dumb.sight.commands, 0, "{}", dumb.sent);
    let mut dumb = status((80, 24), &["--watch"], &[("TERM", "dumb")]);
    dumb.wait_for("a second picture", |sight| sight.scrolled > 3).unwrap();
    assert_eq!(dumb.sight().commands, 0, "{}", dumb.sight().text());
    dumb.press("\x03").unwrap();
    assert_eq!(dumb.end().unwrap().code, Some(0));
    gateway.stop().await.unwrap();
}

#[test]
fn help_on_a_terminal_breaks_no_word() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["", "status", "tags", "queue", "scan", "provision"] {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let ended = Terminal::start(dir.path(), (80, 24), &args, &[]).unwrap().end().unwrap();
        assert_eq!(ended.code, Some(0));
        let long: Vec<&str> = ended.sent.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{command}: {long:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_gets_no_colours_and_one_that_is_closed_makes_nobody_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = plant(dir.path(), 200);
    well(&mut gateway, 200).await;
    let program = tidegate_tests::gateway::binary().unwrap();
    for (args, lines) in [
        ("status", 1),
        ("status --watch", 30),
        ("status --json", 2),
        ("status --metrics", 3),
        ("tags", 1),
        ("tags --watch", 300),
        ("tags --json", 5),
        ("read boiler/actual --json", 1),
    ] {
        let line = format!("\"$0\" {args} --socket control.sock | head -n {lines}");
        let piped =
            Command::new("sh").args(["-c", &line]).arg(&program).current_dir(dir.path()).output().unwrap();
        let (out, errors) = (super::text(&piped.stdout), super::text(&piped.stderr));
        assert!(!out.contains('\x1b') && errors.is_empty(), "{args}: {errors}");
        assert_eq!(out.lines().count(), lines, "{args}");
    }
    gateway.stop().await.unwrap();
}

#[test]
fn ctrl_c_at_the_question_for_a_password_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(dir.path(), (80, 24), &["passwd", "me"], &[]).unwrap();
    terminal.wait_for("the question", |sight| sight.text().contains("Password of me:")).unwrap();
    terminal.press("\x03").unwrap();
    let ended = terminal.end().unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.sight.text());
    is_given_back(&ended);
}
