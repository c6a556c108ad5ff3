//! The commands as an electrician meets them: rightly and wrongly, with the exit code and the first line of each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tidegate_tests::gateway::{Gateway, binary};

#[path = "cli/scripts.rs"]
mod scripts;
#[path = "cli/terminal.rs"]
mod terminal;

fn run(dir: &Path, args: &[&str]) -> Output {
    // The name under which the program is installed is part of what it says.
    let mut command = Command::new(binary().unwrap());
    command.arg0("gateway-daemon").args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The exit code, and the first line of what was said: on standard output when it went well, else on standard error.
fn said(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = run(dir, args);
    let all = if output.stderr.is_empty() { text(&output.stdout) } else { text(&output.stderr) };
    (output.status.code().unwrap(), all.lines().next().unwrap_or_default().to_owned())
}

/// A gateway with a simulated bus; the field alone, so that nothing but the socket is needed.
const SIMULATED: &str = r#"
[gateway]
id = "gw"
socket = "control.sock"
[store]
path = "queue.db"
[bus.line]
driver = "sim"
[device.boiler]
bus = "line"
unit = 17
[[device.boiler.poll]]
every = "1s"
tags.setpoint = { holding = 0, type = "i16", scale = 0.1, unit = "°C", min = 5, max = 90, writable = true }
tags.actual = { input = 0, type = "i16", scale = 0.1, unit = "°C" }
tags.pump = { coil = 3, writable = true }
tags.mode = { holding = 5, type = "bit", bit = 2, writable = true }
"#;

const OVERLOADED: &str = r#"
[gateway]
id = "gw"
[store]
path = "queue.db"
[bus.line]
driver = "modbus-rtu"
port = "/dev/ttyUSB0"
baud = 9600
[device.meter]
bus = "line"
unit = 1
[[device.meter.poll]]
every = "100ms"
tags.a = { holding = 0, type = "u16" }
tags.b = { holding = 100, type = "text", registers = 100 }
"#;

#[test]
fn a_wrong_command_line_ends_with_64_and_says_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    for (args, line) in [
        (&["chek"][..], "error: unrecognized subcommand 'chek'"),
        (&["read"], "error: the following required arguments were not provided:"),
        (
            &["read", "voltage"],
            "error: invalid value 'voltage' for '[DEVICE/TAG]...': \"voltage\" is not DEVICE/TAG, such as meter1/voltage",
        ),
        (
            &["write", "boiler/setpoint"],
            "error: \"boiler/setpoint\" has no value: write DEVICE/TAG VALUE, such as meter1/relay on",
        ),
        (&["status", "--watch", "--json"], "error: the argument '--watch' cannot be used with '--json'"),
        (
            &["demo", "--outage", "20"],
            "error: invalid value '20' for '--outage <TIME>': a time with its unit is expected, such as 500ms, 20s, 5m or 1h (at most 24h)",
        ),
    ] {
        assert_eq!(said(dir.path(), args), (64, line.to_owned()), "{args:?}");
    }
    let nothing = run(dir.path(), &[]);
    assert_eq!(nothing.status.code(), Some(64));
    assert!(text(&nothing.stderr).contains("gateway-daemon demo"));
}

#[test]
fn a_wrong_configuration_ends_with_78_and_every_problem_has_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("a.toml"),
        "[gateway]\nid = \"gw\"\n[bus.line]\ndriver = \"sim\"\nbaud = 9600\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("photo.toml"), [0xFF, 0xD8, 0xFF, 0xE0]).unwrap();
    for command in ["check", "run"] {
        let missing = (78, "gatway.toml:1:1: there is no such file: check the path".to_owned());
        assert_eq!(said(dir.path(), &[command, "gatway.toml"]), missing);
        let folder = (78, ".:1:1: this is a folder, expected a configuration file".to_owned());
        assert_eq!(said(dir.path(), &[command, "."]), folder);
        let (code, line) = said(dir.path(), &[command, "photo.toml"]);
        assert_eq!(code, 78);
        assert!(line.starts_with("photo.toml:1:1: "), "{line}");
        let output = run(dir.path(), &[command, "a.toml"]);
        assert_eq!(output.status.code(), Some(78));
        let line =
            "a.toml:5:1: `baud` means nothing with driver = \"sim\", only with \"modbus-rtu\": remove it";
        assert!(text(&output.stderr).lines().any(|found| found == line), "{}", text(&output.stderr));
    }
}

#[test]
fn commands_that_look_at_a_gateway_need_no_more_of_its_file_than_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let broken = "[broker.limits]\nconnections_max = 0\n[broker.client.a b]\n[uplink.x]\nurl = nonsense\n";
    std::fs::write(dir.path().join("broken.toml"), format!("{SIMULATED}{broken}")).unwrap();
    std::fs::write(dir.path().join("hidden.toml"), SIMULATED.replace("[gateway]", "[gateway")).unwrap();
    let latin1 = [SIMULATED.as_bytes(), b"# gr\xf6\xdfe\n[bus.x]\nname = \"\xfc\"\n"].concat();
    std::fs::write(dir.path().join("latin1.toml"), latin1).unwrap();
    std::fs::write(dir.path().join("twice.toml"), format!("{SIMULATED}[store]\n[store]\n")).unwrap();
    std::fs::write(dir.path().join("wrong.toml"), SIMULATED.replace("id = \"gw\"", "id = 7\nid = \"a b\""))
        .unwrap();
    for file in ["broken.toml", "latin1.toml", "twice.toml", "wrong.toml"] {
        assert_eq!(said(dir.path(), &["check", file]).0, 78, "{file}");
    }
    for args in [
        &["status"][..],
        &["tags"],
        &["read", "boiler/actual"],
        &["read", "--raw", "line:17:holding:0", "--json"],
        &["write", "boiler/pump", "on"],
        &["status", "--check"],
        &["status", "--json"],
        &["status", "--metrics"],
        &["status", "--watch"],
        &["tags", "boiler", "--json"],
        &["tags", "--watch"],
        &["sessions", "list"],
        &["sessions", "drop", "press3"],
        &["queue", "list", "cloud"],
        &["queue", "show", "cloud", "7"],
        &["queue", "send", "cloud", "--all"],
        &["queue", "delete", "cloud", "7"],
    ] {
        for file in ["broken.toml", "latin1.toml", "twice.toml", "wrong.toml"] {
            let (code, line) = said(dir.path(), &[args, &["--config", file]].concat());
            assert_eq!(code, 69, "{args:?} {file}: {line}");
            assert!(line.contains("no gateway is running behind") && line.contains("control.sock"), "{line}");
        }
        let (code, line) = said(dir.path(), &[args, &["--config", "hidden.toml"]].concat());
        assert_eq!(code, 78, "{args:?}: {line}");
        assert!(line.starts_with("hidden.toml:4:1: `socket` may stand here"), "{line}");
        assert!(line.contains("--socket"), "{line}");
        assert_eq!(said(dir.path(), &[args, &["--config", "none.toml"]].concat()).0, 78, "{args:?}");
    }
}

#[test]
fn the_example_passes_its_check_beside_the_files_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/gateway.example.toml");
    std::fs::copy(example, dir.path().join("gateway.toml")).unwrap();
    certificates(dir.path());
    let output = run(dir.path(), &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("ms per cycle"), "{}", text(&output.stdout));
}

#[test]
fn check_says_where_settings_of_the_board_have_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[gateway]\nid = \"g\"\n[broker]\n[board]\noverlays = [\"sc16is752-spi1,int_pin=24\"]\n";
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let output = run(dir.path(), &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("gateway.toml:1:1: warning: [board] has no effect on this system: "), "{said}");
    std::fs::write(dir.path().join("gateway.toml"), config.replace("int_pin=24", "int_pin = 24")).unwrap();
    let output = run(dir.path(), &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    assert!(said.contains("gateway.toml:5:13: `overlays` holds ") && said.contains("has a blank"), "{said}");
}

#[test]
fn the_beginning_of_a_configuration_in_the_readme_of_the_card_passes_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-daemon/src/provision/README.txt");
    let readme = std::fs::read_to_string(readme).unwrap();
    let lines = readme.lines().map(str::trim).filter(|line| line.starts_with('[') || line.contains(" = "));
    let config: Vec<&str> = lines.collect();
    assert!(config.contains(&"[gateway]"), "{config:?}");
    std::fs::write(dir.path().join("gateway.toml"), config.join("\n")).unwrap();
    certificates(dir.path());
    let output = run(dir.path(), &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// The files that configurations name: enough for a check, which does not open a connection.
fn certificates(dir: &Path) {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tests/files");
    for (name, mode) in [("ca.pem", 0o644), ("device.pem", 0o644), ("device.key", 0o600)] {
        let path = dir.join(name);
        std::fs::copy(made.join(name), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn an_impossible_schedule_is_refused_with_the_plan_that_shows_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), OVERLOADED).unwrap();
    let output = run(dir.path(), &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let (plan, problems) = (text(&output.stdout), text(&output.stderr));
    assert!(problems.contains("bus `line` cannot be polled in time"), "{problems}");
    assert!(plan.starts_with("bus ") && plan.contains("ms per cycle") && plan.contains("meter"), "{plan}");
    let quiet = run(dir.path(), &["check", "--quiet", "gateway.toml"]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout)), (Some(78), String::new()));

    std::fs::write(dir.path().join("slow.toml"), OVERLOADED.replace("100ms", "10s")).unwrap();
    let output = run(dir.path(), &["check", "slow.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("modbus-rtu") || text(&output.stdout).contains("9600"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn without_a_gateway_commands_end_with_69_and_say_where_they_looked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), SIMULATED).unwrap();
    for args in [&["status"][..], &["tags"], &["read", "boiler/actual"], &["write", "boiler/pump", "on"]] {
        let (code, line) = said(dir.path(), &[args, &["--socket", "none.sock"]].concat());
        assert_eq!(code, 69, "{args:?}");
        assert!(
            line.starts_with("error: no gateway is running behind none.sock: there is no such socket"),
            "{line}"
        );
        let (code, line) = said(dir.path(), &[args, &["--config", "gateway.toml"]].concat());
        assert_eq!(code, 69, "{args:?}");
        assert!(line.contains("control.sock"), "{line}");
    }
}

#[test]
fn a_place_where_no_gateway_can_listen_ends_with_74_and_nothing_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious.txt"), "precious").unwrap();
    let config = SIMULATED.replace("control.sock", "precious.txt");
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let output = run(dir.path(), &["run", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(74));
    let log = text(&output.stderr);
    assert!(
        log.contains("ERROR cannot start: control socket ") && log.contains("which is left alone"),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("precious.txt")).unwrap(), "precious");
}

#[test]
fn the_schema_is_json_and_knows_the_keys_of_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/gateway.example.toml");
    for line in std::fs::read_to_string(example).unwrap().lines().filter(|line| line.starts_with('[')) {
        let section = line.trim_start_matches('[').split(['.', ']']).next().unwrap();
        assert!(schema["properties"].get(section).is_some(), "{section} is not in the schema");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), SIMULATED).unwrap();
    for args in
        [&["schema"][..], &["check", "gateway.toml"], &["--help"], &["chek"], &["status", "--socket", "none"]]
    {
        let mut child = Command::new(binary().unwrap())
            .args(args)
            .current_dir(dir.path())
            .stdout(closed_pipe())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let code = child.wait().unwrap().code();
        assert!(!errors.contains("panicked") && code != Some(101) && code.is_some(), "{args:?}: {errors}");
        let mut child = Command::new(binary().unwrap())
            .args(args)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(closed_pipe())
            .spawn()
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{args:?} with standard error closed");
    }
}

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_is_read_written_and_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let config = SIMULATED.replace("\"control.sock\"", &format!("\"{}/control.sock\"", dir.path().display()));
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    gateway
        .wait_for("good tags", |now| now.tags.len() == 4 && now.tags.iter().all(|tag| tag.is_good()))
        .await
        .unwrap();
    let ask = |args: &[&str]| said(dir.path(), &[args, &["--socket", "control.sock"]].concat());
    std::fs::write(
        dir.path().join("broken.toml"),
        format!("{config}[broker.limits]\nconnections_max = 0\n[x\n"),
    )
    .unwrap();
    assert_eq!(said(dir.path(), &["status", "--config", "broken.toml"]).0, 0);

    assert_eq!(ask(&["write", "boiler/setpoint", "21.5"]), (0, "boiler/setpoint = 21.5 °C".into()));
    assert_eq!(ask(&["read", "boiler/setpoint"]), (0, "boiler/setpoint = 21.5 °C".into()));
    assert_eq!(ask(&["read", "--raw", "line:17:holding:0"]), (0, "    0:   215  0x00d7".into()));
    assert_eq!(ask(&["write", "boiler/pump", "on"]), (0, "boiler/pump = on".into()));
    assert_eq!(ask(&["read", "--raw", "line:17:coil:3"]), (0, "    3: 1".into()));
    assert_eq!(ask(&["write", "boiler/mode", "on"]), (0, "boiler/mode = on".into()));
    assert_eq!(ask(&["read", "boiler/mode"]), (0, "boiler/mode = on".into()));
    assert_eq!(ask(&["write", "--raw", "line:17:holding:0", "300"]), (0, "written".into()));
    assert_eq!(ask(&["read", "boiler/setpoint", "--json"]).0, 0);

    for (args, line) in [
        (
            &["write", "boiler/setpoint", "21,5"][..],
            "error: boiler/setpoint: \"21,5\" is not a number; write the decimal point as '.', not ','",
        ),
        (&["write", "boiler/setpoint", "95"], "error: boiler/setpoint: outside the configured range 5 to 90"),
        (
            &["write", "boiler/actual", "1"],
            "error: boiler/actual is read-only; set `writable = true` at this tag to allow it",
        ),
        (
            &["read", "boiler/pressure"],
            "error: boiler has no tag \"pressure\"; it has: setpoint, actual, pump, mode",
        ),
        (&["read", "kettle/actual"], "error: no device \"kettle\"; there are: boiler"),
        (&["read", "--raw", "plc:1:holding:0"], "error: no bus \"plc\"; there are: line"),
        (
            &["read", "--raw", "line:0:holding:0"],
            "error: unit 0 is a broadcast, which no unit answers; name one of 1 to 247",
        ),
        (
            &["read", "--raw", "line:17:holding:999"],
            "error: the device refused (exception 2): it has no such address",
        ),
        (
            &["read", "--raw", "line:99:holding:0"],
            "error: unit 99 on bus line: no answer; check its power, its wires and its unit: `gateway-daemon status` says how its bus and the other devices are",
        ),
    ] {
        assert_eq!(ask(args), (1, line.to_owned()), "{args:?}");
    }

    let (code, _) = ask(&["status"]);
    assert_eq!(code, 0);
    let status = run(dir.path(), &["status", "--json", "--socket", "control.sock"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (status["gateway"].as_str(), status["devices"][0]["health"].as_str()),
        (Some("gw"), Some("good"))
    );
    let tags = text(&run(dir.path(), &["tags", "--socket", "control.sock"]).stdout);
    assert!(["setpoint", "actual", "pump", "mode"].iter().all(|tag| tags.contains(tag)), "{tags}");
    let one = text(&run(dir.path(), &["tags", "boiler/pump", "--socket", "control.sock"]).stdout);
    assert!(one.contains("pump") && !one.contains("setpoint"), "{one}");

    std::fs::write(dir.path().join("again.toml"), &config).unwrap();
    let again = run(dir.path(), &["run", "again.toml"]);
    assert_eq!(again.status.code(), Some(74));
    assert!(text(&again.stderr).contains("another gateway is running on "), "{}", text(&again.stderr));
    gateway.stop().await.unwrap();
}

/// `cargo xtask golden` rewrites the page.
#[test]
fn golden_help_of_all_commands() {
    let dir = tempfile::tempdir().unwrap();
    let mut page = "# Commands\n\nGenerated from the program by `cargo xtask golden`. What `--json` prints: [json.md](json.md).\n".to_owned();
    let help = |command: &str| {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{command}");
        text(&output.stdout).lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>()
    };
    let mut commands = vec![String::new()];
    let mut at = 0;
    while let Some(command) = commands.get(at).cloned() {
        let text = help(&command);
        let title = format!("gateway-daemon {command}");
        let _ = write!(page, "\n## {}\n\n```text\n{text}```\n", title.trim_end());
        let listed =
            text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        let listed = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
        let below =
            listed.filter(|name| *name != "help").map(|name| format!("{command} {name}").trim().to_owned());
        // Commands of a command stand behind it.
        let below: Vec<String> = below.collect();
        commands.splice(at + 1..at + 1, below);
        at += 1;
    }
    assert!(commands.len() > 16, "{commands:?}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&file, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == page, "docs/commands.md is stale: run `cargo xtask golden` and look at the difference");
}

/// `passwd` with this on standard input.
fn passwd(args: &[&str], input: &[u8]) -> (i32, String, String) {
    use std::io::Write as _;
    let mut child = Command::new(binary().unwrap())
        .args([&["passwd"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its command line ends without reading.
    if let Err(fault) = child.stdin.take().unwrap().write_all(input) {
        assert_eq!(fault.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn passwd_prints_lines_that_the_configuration_takes() {
    let (code, lines, said) = passwd(&["--stdin", "press 3"], b"hunter2\nmore\n");
    assert_eq!((code, said.as_str()), (0, ""));
    let hash = lines.strip_prefix("\n[broker.user.\"press 3\"]\npassword_hash = \"").unwrap();
    let hash = hash.strip_suffix("\"\n").unwrap();
    assert!(gateway_daemon::login::compare(b"hunter2", hash) && !lines.contains("hunter2"), "{lines}");
    // Behind a file whose last line has no end.
    let file = format!("[gateway]\nid = \"g\"{lines}");
    let (config, _) =
        gateway_config::parse(&file, "x", Path::new("/x"), &gateway_config::Environment::default()).unwrap();
    assert!(config.broker.unwrap().access.users.contains_key("press 3"));
    let (code, lines, _) = passwd(&["--stdin"], b"hunter2"); // without the end of a line
    assert!(code == 0 && lines.starts_with("password_hash = \"$argon2id$") && lines.lines().count() == 1);
}

#[test]
fn passwd_refuses_what_is_no_password_and_says_why() {
    for (input, reason) in [
        (&b""[..], "error: the password is empty\n"),
        (b"\n", "error: the password is empty\n"),
        (b"\xff\n", "error: the password is not UTF-8, which MQTT clients would send\n"),
        (&[b'x'; 3000], "error: the password has more than 1024 bytes\n"),
    ] {
        assert_eq!(passwd(&["--stdin", "me"], input), (1, String::new(), reason.to_owned()));
    }
    let (code, out, said) = passwd(&["me"], b"hunter2\n");
    assert_eq!((code, out.as_str()), (64, ""));
    assert_eq!(said, "error: standard input is no terminal: write --stdin to read the password from it\n");
    let (code, _, said) = passwd(&["--stdin", ""], b"hunter2\n");
    assert!(code == 64 && said.contains("a user name has 1 to 256 bytes"), "{said}");
}

/// `passwd me` on a terminal where these lines are typed, each when it is asked for: the exit code, standard output, standard error, and what
/// the terminal showed.
fn typed(lines: [&str; 2]) -> (i32, String, String, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Write as _;
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = Command::new(binary().unwrap())
        .args(["passwd", "me"])
        .stdin(slave)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = std::fs::File::from(master);
    let (mut asked, mut questions) = (String::new(), child.stderr.take().unwrap());
    for (line, question) in lines.into_iter().zip(["Password of me: ", "The same again: "]) {
        while !asked.ends_with(question) {
            let mut byte = [0];
            questions.read_exact(&mut byte).unwrap(); // ends with an error if the program does
            asked.push(char::from(byte[0]));
        }
        keyboard.write_all(line.as_bytes()).unwrap();
    }
    questions.read_to_string(&mut asked).unwrap();
    let output = child.wait_with_output().unwrap();
    // The last of the terminal's users is gone, so reading ends when all is read.
    let mut shown = Vec::new();
    let _ = keyboard.read_to_end(&mut shown);
    (output.status.code().unwrap(), text(&output.stdout), asked, text(&shown))
}

#[test]
fn passwd_asks_twice_on_a_terminal_and_shows_nothing_of_it() {
    let (code, out, asked, shown) = typed(["hunter2\n", "hunter2\n"]);
    assert!(
        code == 0 && out.trim_start().starts_with("[broker.user.me]\npassword_hash = \"$argon2id$"),
        "{out}{asked}"
    );
    assert_eq!(asked, "Password of me: The same again: ");
    assert!(!shown.contains("hunter") && shown.contains('\n'), "{shown:?}");
    let (code, out, asked, _) = typed(["hunter2\n", "hunter3\n"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(asked.ends_with("error: the two passwords differ\n"), "{asked}");
}

#[test]
fn check_and_provisioning_with_relative_paths_refuse_the_key_of_another_certificate() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["drop", "config", "run", "root"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let drop = dir.path().join("drop");
    certificates(&drop);
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tests/files/other.key");
    std::fs::copy(other, drop.join("device.key")).unwrap();
    let config = "[gateway]\nid = \"plant7\"\n[uplink.cloud]\nurl = \"mqtts://broker.example.com\"\nca = \"ca.pem\"\n\
                  client_cert = \"device.pem\"\nclient_key = \"device.key\"\n";
    std::fs::write(drop.join("gateway.toml"), config).unwrap();
    let wrong = "does not belong to the certificate beside it";
    let output = run(&drop, &["check", "gateway.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    assert!(said.contains("gateway.toml:7:14: `client_key` = ") && said.contains(wrong), "{said}");
    let words = ["provision", "--drop", "drop", "--config", "config", "--run", "run", "--root", "root"];
    run(dir.path(), &words);
    let said = std::fs::read_to_string(drop.join("gateway-errors.txt")).unwrap();
    assert!(said.contains("`client_key` = device.key") && said.contains(wrong), "{said}");
    assert!(!dir.path().join("config/device.pem").exists());
    // The right key, and all is taken.
    certificates(&drop);
    run(dir.path(), &words);
    assert!(dir.path().join("config/keys/device.key").exists());
}
