//! The commands of docs/broker.md for certificates, as they stand there.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_tests::clients::mosquitto_pub;
use tidegate_tests::yard::Yard;

const GUIDE: &str = include_str!("../../../docs/broker.md");

/// The blocks for a shell below "Certificates" that need no running gateway.
fn recipes() -> Vec<&'static str> {
    let part = GUIDE.split("\n## Certificates\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = part.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.filter(|block| block.contains("openssl ")).collect()
}

fn run(recipe: &str, folder: &Path) {
    // `openssl ca` asks whether it may.
    let script = recipe.replace("openssl ca ", "openssl ca -batch ");
    let output = Command::new("sh").args(["-euc", &script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{recipe}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_certificates_of_the_guide_let_a_machine_in_until_the_list_of_the_guide_calls_it_back() {
    let [authority, machine, list, call_back] = recipes()[..] else { panic!("{:?}", recipes()) };
    let door = "[broker.listener.certified]\naddress = \"127.0.0.1:0\"\ncert = \"gateway.pem\"\nkey = \"gateway.key\"\n\
                client_ca = \"ca.pem\"\ncrl = \"plant7.crl\"\n";
    let yard = Yard::with_files(door, |folder| {
        [authority, machine, list].into_iter().for_each(|recipe| run(recipe, folder));
        Ok(())
    })
    .await
    .unwrap();
    let port = yard.port("certified").await.unwrap();
    let path = |name: &str| yard.dir().join(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("press3.pem"), path("press3.key"));
    let args = [
        "--cafile",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "-h",
        "localhost",
        "-t",
        "x",
        "-m",
        "21.5",
        "-q",
        "1",
    ];
    mosquitto_pub(port, &args).await.unwrap_or_else(|fault| panic!("{fault}\n{}", yard.gateway.log()));
    assert!(!yard.gateway.log().contains("has a list"), "nothing is odd about it: {}", yard.gateway.log());
    run(call_back, yard.dir());
    // No restart.
    let until = Instant::now() + Duration::from_secs(30);
    while mosquitto_pub(port, &args).await.is_ok() {
        assert!(Instant::now() < until, "{}", yard.gateway.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(yard.gateway.log().contains("1 certificate is called back"), "{}", yard.gateway.log());
    yard.gateway.stop().await.unwrap();
}
