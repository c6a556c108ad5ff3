//! The commands as scripts use them: exit codes, JSON, and names that there are not.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use drivers::sim::model::Model;
use drivers::sim::serve::{Units, tcp};
use serde_json::Value;
use tidegate_tests::gateway::Gateway;

use super::{SIMULATED, run, text};

async fn start(dir: &Path, config: &str) -> Gateway {
    let socket = format!("\"{}/control.sock\"", dir.display());
    let mut gateway = Gateway::start(dir, &config.replace("\"control.sock\"", &socket)).unwrap();
    gateway
        .wait_for("good tags", |now| now.tags.len() == 4 && now.tags.iter().all(|tag| tag.is_good()))
        .await
        .unwrap();
    gateway
}

/// The exit code, standard output and standard error of a command to the gateway of this folder.
fn ask(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = run(dir, &[args, &["--socket", "control.sock"]].concat());
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|fault| panic!("{fault}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_check_ends_with_0_when_all_is_well_1_when_not_and_69_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ask(dir.path(), &["status", "--check"]).0, 69);
    assert_eq!(ask(dir.path(), &["status", "--check", "--json"]).0, 69);
    let mut gateway = start(dir.path(), SIMULATED).await;
    assert_eq!(ask(dir.path(), &["status", "--check"]), (0, "all is well\n".into(), String::new()));
    let (code, out, _) = ask(dir.path(), &["status", "--check", "--json"]);
    assert_eq!(
        (code, json(&out)),
        (0, serde_json::json!({ "well": true, "verdict": "all is well", "troubles": [] }))
    );
    let (code, out, _) = ask(dir.path(), &["status"]);
    assert!(code == 0 && out.starts_with("all is well\n"), "{out}");

    let wrong = format!(
        "{}[bus.rs485]\ndriver = \"modbus-rtu\"\nbaud = 19200\nport = \"/dev/tidegate-nothing\"\n[device.pump]\nbus = \"rs485\"\nunit = 1\n[[device.pump.poll]]\nevery = \"1s\"\ntags.a = {{ holding = 0, type = \"u16\" }}\n",
        SIMULATED.replace("\"control.sock\"", &format!("\"{}/control.sock\"", dir.path().display()))
    );
    gateway.reload(&wrong).await.unwrap();
    gateway
        .wait_for("a bus that is down", |now| now.buses.iter().any(|bus| !bus.up && bus.why.is_some()))
        .await
        .unwrap();
    let (code, out, errors) = ask(dir.path(), &["status", "--check"]);
    assert_eq!((code, out.lines().count(), errors.as_str()), (1, 1, ""), "{out}");
    assert!(
        out.starts_with("not well: ") && out.contains("rs485") && out.contains("/dev/tidegate-nothing"),
        "{out}"
    );
    let (code, out, _) = ask(dir.path(), &["status", "--check", "--json"]);
    let report = json(&out);
    assert_eq!((code, &report["well"]), (1, &false.into()), "{out}");
    assert_eq!(report["troubles"][0]["subject"], "bus/rs485", "{out}");
    assert!(report["troubles"][0]["remedy"].is_string(), "{out}");
    let (code, out, _) = ask(dir.path(), &["status", "--json"]);
    assert_eq!((code, &json(&out)["well"]), (0, &false.into()), "without --check the answer is what counts");
    gateway.stop().await.unwrap();
}

#[test]
fn a_gateway_that_goes_away_or_turns_a_client_away_gives_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    for answer in ["", "{\"refused\":\"8 clients are connected already\"}\n", "no JSON\n"] {
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The command may have hung up already.
            let _ = stream.write_all(answer.as_bytes());
        });
        let (code, out, errors) = ask(dir.path(), &["status", "--check"]);
        peer.join().unwrap();
        assert_eq!((code, out.as_str()), (69, ""), "{answer:?}: {errors}");
        assert!(errors.starts_with("error: "), "{answer:?}: {errors}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_holds_exactly_the_tags_that_were_named() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), SIMULATED).await;
    let names = |out: &str| -> Vec<String> {
        json(out)["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["tag"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, out, _) = ask(dir.path(), &["tags", "boiler/pump", "boiler/setpoint", "--json"]);
    assert_eq!((code, names(&out)), (0, vec!["setpoint".to_owned(), "pump".to_owned()]));
    let (code, out, _) = ask(dir.path(), &["tags", "boiler", "--json"]);
    assert_eq!((code, names(&out).len()), (0, 4));
    let (code, out, _) = ask(dir.path(), &["tags", "--json"]);
    assert_eq!((code, names(&out).len()), (0, 4));

    let (code, out, _) =
        ask(dir.path(), &["read", "boiler/pump", "boiler/pressure", "boiler/mode", "--json"]);
    let lines: Vec<Value> = out.lines().map(json).collect();
    assert_eq!((code, lines.len()), (1, 3), "{out}");
    assert_eq!((&lines[0]["tag"], &lines[0]["value"]), (&"pump".into(), &false.into()));
    assert_eq!((&lines[1]["tag"], &lines[1]["value"]), (&"pressure".into(), &Value::Null));
    assert!(lines[1]["error"].as_str().unwrap().starts_with("boiler has no tag"), "{out}");
    assert_eq!(lines[2]["tag"], "mode");
    let (code, out, _) = ask(dir.path(), &["read", "--raw", "line:17:holding:0:1", "--json"]);
    assert!(code == 0 && json(&out).as_array().unwrap().len() == 1, "{out}");
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_there_is_not_fails_and_the_one_that_is_near_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path(), SIMULATED).await;
    for (args, errors) in [
        (&["tags", "nope"][..], "error: no device \"nope\"; there are: boiler\n"),
        (&["tags", "nope", "--json"], "error: no device \"nope\"; there are: boiler\n"),
        (&["tags", "nope", "--watch"], "error: no device \"nope\"; there are: boiler\n"),
        (&["tags", "boler"], "error: no device \"boler\"; did you mean boiler?\n"),
        (&["tags", "boiler/pmup"], "error: boiler has no tag \"pmup\"; did you mean pump?\n"),
        (&["tags", "pump"], "error: no device \"pump\"; did you mean boiler/pump?\n"),
        (
            &["tags", "boiler", "x", "b"],
            "error: no device \"x\"; there are: boiler\nerror: no device \"b\"; did you mean boiler?\n",
        ),
        (&["read", "boler/pump"], "error: no device \"boler\"; did you mean boiler?\n"),
        (
            &["write", "boiler/setpiont", "1"],
            "error: boiler has no tag \"setpiont\"; did you mean setpoint?\n",
        ),
        (&["read", "--raw", "lin:1:holding:0"], "error: no bus \"lin\"; did you mean line?\n"),
        (&["queue", "list", "cloud"], "error: no uplink \"cloud\"; there is none\n"),
        (&["sessions", "list"], "error: this gateway has no broker: there is no [broker] in its file\n"),
    ] {
        assert_eq!(ask(dir.path(), args), (1, String::new(), errors.to_owned()), "{args:?}");
    }
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scan_prints_one_object_for_each_unit_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut units = Units::new();
    units.insert(2, Box::new(Model::power_meter()));
    units.insert(4, Box::new(Model::io_module()));
    tokio::spawn(tcp(listener, units));
    let scan = |range: &str| {
        let args = ["scan", "--tcp", &server, "--units", range, "--timeout", "1s", "--json"];
        let output = run(dir.path(), &args);
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, errors) = scan("2-4");
    let found: Vec<Value> = out.lines().map(json).collect();
    assert_eq!((code, found.len()), (0, 2), "{out}{errors}");
    assert_eq!(
        (&found[0]["unit"], &found[0]["device"], &found[0]["line"]),
        (&2.into(), &true.into(), &server.as_str().into())
    );
    assert!(found[0]["holding"]["value"].is_u64(), "{out}");
    assert_eq!(found[1]["holding"]["exception"], 2, "{out}");
    assert!(errors.starts_with("2 devices found"), "{errors}");
    let (code, out, errors) = scan("9");
    assert!((code, out.as_str()) == (1, "") && errors.starts_with("no answer from 1 units"), "{errors}");
}
