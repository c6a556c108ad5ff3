//! Who comes in: users, certificates, rules, and what a door says that cannot be opened.

use std::path::Path;

use anyhow::Result;
use gateway_daemon::app::control::{Ask, Reply};
use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::clients::{Sub, mosquitto_pub, mqtt_js, paho, text};
use tidegate_tests::gateway::{binary, password_hash};
use tidegate_tests::yard::{OPEN, Yard};

fn users() -> String {
    format!(
        "{OPEN}[broker.user.press]\npassword_hash = {}\nallow = [\"publish sensor/%c/#\", \"subscribe cmd/%c/#\"]\n\
         [broker.user.chief]\npassword_hash = {}\n",
        password_hash("pressword").unwrap(),
        password_hash("chiefword").unwrap()
    )
}

#[tokio::test]
async fn users_come_in_with_their_password_and_do_what_their_rules_allow() {
    let yard = Yard::start(&users()).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut chief =
        Sub::start(port, &["-u", "chief", "-P", "chiefword", "-t", "#", "-T", "gw/#"]).await.unwrap();
    let say = |topic| ["-u", "press", "-P", "pressword", "-i", "plc1", "-q", "1", "-m", "x", "-t", topic];
    mosquitto_pub(port, &say("sensor/other/x")).await.unwrap();
    mosquitto_pub(port, &say("sensor/plc1/x")).await.unwrap();
    assert_eq!(chief.next().await.unwrap().topic, "sensor/plc1/x", "what no rule allows is given to nobody");
    paho(port, &["rules", "press", "pressword"]).await.unwrap();
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_without_a_name_or_with_a_wrong_password_comes_in() {
    let mut yard = Yard::start(&users()).await.unwrap();
    let port = yard.port("local").await.unwrap();
    for (version, nobody, wrong) in [("3.1.1", "135", "134"), ("5", "135", "134")] {
        paho(port, &["refused", version, "", "", nobody]).await.unwrap();
        paho(port, &["refused", version, "chief", "pressword", wrong]).await.unwrap();
        paho(port, &["refused", version, "ghost", "x", wrong]).await.unwrap();
    }
    let fault = mosquitto_pub(port, &["-t", "x", "-m", "x"]).await.unwrap_err().to_string();
    assert!(fault.contains("not authorised"), "{fault}");
    let broker = yard.wait_for("refusals", |broker| broker.logins_refused >= 7).await.unwrap();
    assert_eq!(broker.received, 0);
    let log = yard.gateway.log();
    assert!(log.contains("log-in"), "{log}");
    assert!(!log.contains("pressword"), "a password in the log");
    yard.gateway.stop().await.unwrap();
}

pub(crate) fn papers(dir: &Path) -> Result<Authority> {
    let authority = Authority::new("plant ca")?;
    let server = authority.server(&["localhost", "127.0.0.1"], Validity::Good)?;
    std::fs::copy(authority.ca(), dir.join("ca.pem"))?;
    std::fs::copy(&server.cert, dir.join("server.pem"))?;
    std::fs::copy(&server.key, dir.join("server.key"))?;
    Ok(authority)
}

const TLS: &str = "cert = \"server.pem\"\nkey = \"server.key\"\n";

#[tokio::test]
async fn a_certificate_is_a_user_and_its_rules_hold() {
    let doors = format!(
        "[broker.listener.tls]\naddress = \"127.0.0.1:0\"\n{TLS}client_ca = \"ca.pem\"\n\
         [broker.user.plc7]\nallow = [\"publish from/%u/#\"]\n[broker.user.desk]\nallow = [\"subscribe #\"]\n"
    );
    let mut authority = None;
    let yard = Yard::with_files(&doors, |dir| {
        authority = Some(papers(dir)?);
        Ok(())
    })
    .await
    .unwrap();
    let authority = authority.unwrap();
    let port = yard.port("tls").await.unwrap();
    let ca = yard.dir().join("ca.pem");
    let device = |name: &str, validity| authority.device(name, validity, KeyFormat::Pkcs8).unwrap();
    let (desk, plc, old) =
        (device("desk", Validity::Good), device("plc7", Validity::Good), device("plc7", Validity::Expired));
    let with = |leaf: &tidegate_tests::certs::Leaf| {
        ["--cafile", text(&ca), "--cert", text(&leaf.cert), "--key", text(&leaf.key)].map(str::to_owned)
    };
    let desk: Vec<String> = with(&desk).into_iter().chain(["-t", "from/#"].map(str::to_owned)).collect();
    let desk: Vec<&str> = desk.iter().map(String::as_str).collect();
    let mut desk = Sub::start(port, &desk).await.unwrap();
    for topic in ["from/other/x", "from/plc7/x"] {
        let args: Vec<String> =
            with(&plc).into_iter().chain(["-q", "1", "-m", "x", "-t", topic].map(str::to_owned)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        mosquitto_pub(port, &args).await.unwrap();
    }
    assert_eq!(desk.next().await.unwrap().topic, "from/plc7/x");
    let old: Vec<String> = with(&old).into_iter().chain(["-m", "x", "-t", "x"].map(str::to_owned)).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    mosquitto_pub(port, &old).await.unwrap_err();
    mosquitto_pub(port, &["--cafile", text(&ca), "-t", "x", "-m", "x"]).await.unwrap_err();
    mosquitto_pub(port, &["-t", "x", "-m", "x"]).await.unwrap_err();
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn mqtt_of_npm_speaks_through_secure_web_sockets() {
    let doors = format!(
        "[broker.listener.web]\naddress = \"127.0.0.1:0\"\nwebsocket = true\nanonymous = true\n{TLS}"
    );
    let yard = Yard::with_files(&doors, |dir| papers(dir).map(|_| ())).await.unwrap();
    let url = format!("wss://localhost:{}/mqtt", yard.port("web").await.unwrap());
    let ca = yard.dir().join("ca.pem");
    for version in ["3.1.1", "5"] {
        mqtt_js(&url, version, Some(&ca))
            .await
            .unwrap_or_else(|fault| panic!("{fault}\n{}", yard.gateway.log()));
    }
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_door_that_is_taken_is_told_with_its_address_and_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display();
    let file = dir.path().join("gateway.toml");
    let config = format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{place}/c.sock\"\n[store]\npath = \"{place}/q.db\"\n[bus.line]\ndriver = \"sim\"\n\
         [device.m]\nbus = \"line\"\nunit = 1\n[[device.m.poll]]\nevery = \"1s\"\ntags.a = {{ holding = 0, type = \"u16\" }}\n\
         [broker.listener.local]\naddress = \"{address}\"\n"
    );
    std::fs::write(&file, config).unwrap();
    let output = std::process::Command::new(binary().unwrap()).arg("run").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains(&address.to_string()) && said.contains("listener local"), "{said}");
}

#[tokio::test]
async fn status_and_metrics_tell_of_doors_clients_and_messages() {
    let mut yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let reader = Sub::start(port, &["-t", "x/#", "-q", "1", "-c", "-i", "reader"]).await.unwrap();
    mosquitto_pub(port, &["-t", "x/a", "-m", "1", "-q", "1", "-r"]).await.unwrap();
    let seen = |broker: &gateway_daemon::app::snapshot::Broker| {
        broker.clients == 1
            && broker.sessions == 1
            && broker.retained == 1
            && broker.received == 1
            && broker.sent == 1
    };
    let broker = yard.wait_for("one client", seen).await.unwrap();
    assert_eq!((broker.listeners[0].connections, broker.subscriptions), (1, 1));
    assert!(broker.listeners[0].url.starts_with("mqtt://127.0.0.1:"), "{broker:?}");
    reader.kill().await.unwrap();
    mosquitto_pub(port, &["-t", "x/a", "-m", "2", "-q", "1"]).await.unwrap();
    yard.wait_for("a message on disk", |broker| {
        broker.clients == 0 && broker.sessions == 1 && broker.stored == 1
    })
    .await
    .unwrap();
    let Reply::Text(metrics) = yard.gateway.ask(&Ask::Metrics).await.unwrap() else { panic!("no metrics") };
    for line in [
        "broker_connections 0",
        "broker_sessions 1",
        "broker_received_messages_total 2",
        "broker_sent_messages_total 1",
    ] {
        assert!(metrics.lines().any(|have| have == line), "no {line} in {metrics}");
    }
    let mut figures = Sub::start(port, &["-t", "$SYS/broker/#"]).await.unwrap();
    assert!(figures.next().await.unwrap().topic.starts_with("$SYS/broker/"));
    yard.gateway.stop().await.unwrap();
}
