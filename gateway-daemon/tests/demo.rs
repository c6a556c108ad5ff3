//! The demo as a person runs it: the whole gateway, its devices and a cloud in one process.

#[test]
fn the_demo_counts_every_reading_and_ends_by_itself() {
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_gateway-daemon"))
        .args(["demo", "--seconds", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{}\n{said}\n{}", demo.status, String::from_utf8_lossy(&demo.stderr));
    let verdict = said.lines().last().unwrap();
    assert!(verdict.contains(" 0 missing") && !verdict.starts_with("0 readings"), "{said}");
}

#[test]
fn a_demo_of_a_wrong_configuration_says_what_is_wrong_and_ends_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, "[gatway]\nid = \"a\"\n").unwrap();
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_gateway-daemon"))
        .args(["demo", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(demo.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&demo.stderr).contains("wrong.toml:1:2"), "{demo:?}");
}
