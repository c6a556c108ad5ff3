//! Whatever stands in the file: an answer, and never a panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::fmt::Write as _;
use std::path::Path;

use gateway_config::fuzzing::fuzz_toml;
use gateway_config::{Environment, FILE_BYTES_MAX, PROBLEMS_MAX, Problems, load, parse};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../gateway.example.toml");

fn refuse(text: &str) -> Problems {
    parse(text, "x.toml", Path::new("/nonexistent"), &Environment::default()).unwrap_err()
}

fn load_bytes(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, bytes).unwrap();
    let problems = load(&path, &Environment::default()).unwrap_err();
    problems.to_string().replace(&path.display().to_string(), "x.toml")
}

/// Cases per property: quick by default, many from xtask.
fn cases() -> u32 {
    std::env::var("TIDEGATE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}

#[test]
fn huge_file_is_refused_by_its_size() {
    assert!(load_bytes(&vec![b'a'; FILE_BYTES_MAX + 1]).contains("expected at most"), "size");
    fuzz_toml(&vec![b'='; FILE_BYTES_MAX + 1]);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    assert_eq!(
        load_bytes(b"[gateway]\nid = \"g\xb0\"\n"),
        "x.toml:2:8: byte 0xB0 is not UTF-8 (often \"\u{b0}\" or \"\u{fc}\" saved in a Windows code page): save the file again as UTF-8"
    );
    assert!(load_bytes(b"\xff\xfe[\0g\0").contains("UTF-16"));
}

#[test]
fn byte_order_mark_and_windows_line_ends_do_no_harm() {
    let text = format!("\u{feff}{}", include_str!("../minimal.toml").replace('\n', "\r\n"));
    assert!(parse(&text, "x.toml", Path::new("/x"), &Environment::default()).is_ok());
}

#[test]
fn missing_file_folder_and_pipe_are_said() {
    let load = |path: &str| load(Path::new(path), &Environment::default()).unwrap_err().to_string();
    assert_eq!(load("/nonexistent/x.toml"), "/nonexistent/x.toml:1:1: there is no such file: check the path");
    assert_eq!(load("/tmp"), "/tmp:1:1: this is a folder, expected a configuration file");
    let special = "this is a pipe, socket or device, expected a configuration file";
    assert_eq!(load("/dev/zero"), format!("/dev/zero:1:1: {special}"));
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    assert_eq!(load(pipe), format!("{pipe}:1:1: {special}"), "and nobody is waited for");
    assert!(gateway_config::control_socket(Path::new(pipe)).unwrap_err().to_string().ends_with(special));
}

#[test]
fn what_a_shell_gives_as_a_pipe_is_read_as_a_file() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(include_bytes!("../minimal.toml")).unwrap();
    drop(writer);
    for folder in ["/dev/fd", "/proc/self/fd"] {
        let path = format!("{folder}/{}", reader.as_raw_fd());
        let read = load(Path::new(&path), &Environment::default());
        // The second time nothing is left in it, and nobody is waited for.
        assert_eq!(read.is_ok(), folder == "/dev/fd", "{read:?}");
    }
}

#[test]
fn deep_nesting_is_refused_before_it_is_parsed() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(100_000),
        "a.".repeat(500_000) + "a = 1",
        "[".to_owned() + &"a.".repeat(500_000) + "a]",
        "\"a\".".repeat(100_000) + "a = 1",
        "a = {".to_owned() + &"b.".repeat(100_000) + "c = 1}",
    ] {
        assert!(refuse(&text).to_string().contains("nested deeper"), "{}", &text[..20]);
    }
}

#[test]
fn flood_of_problems_is_cut_and_counted() {
    let flood: String = (0..20_000).map(|n| format!("key{n} = 1\n")).collect();
    let problems = refuse(&flood);
    assert_eq!(problems.list.len(), PROBLEMS_MAX);
    assert!(problems.more > 19_000);
    assert!(problems.to_string().ends_with(&format!("and {} more", problems.more)));
    let syntax: String = (0..5_000).map(|n| format!("key{n} == 1\n")).collect();
    assert_eq!(refuse(&syntax).list.len(), PROBLEMS_MAX);
}

/// Nothing is looked for once per problem over the whole file: a 4 MiB file of any shape is answered in seconds.
#[test]
fn large_and_wrong_files_are_answered_at_once() {
    let many = |line: fn(usize) -> String| (0..4_000).map(line).collect::<String>();
    for text in [
        many(|n| format!("k{n} = 1\n")) + &many(|n| format!("k{n} = 1\n")),
        many(|n| format!("k{n} = 1, ")),
        many(|_| "[bus.b]\nbaud = 1\n".to_owned()),
        many(|n| format!("[bus.b{n}]\n[device.d{n}]\nbus = \"c{n}\"\n")),
        "bus = { ".to_owned() + &many(|n| format!("b{n} = {{ baud = 1 }}, ")) + "}",
        "[[device.d.poll]]\ntags = { ".to_owned() + &many(|n| format!("t{n} = {{ coil = 1 }}, ")) + "}",
        many(|_| "[x\n".to_owned()),
        many(|_| "a = \"\n".to_owned()),
    ] {
        assert!(!refuse(&text).list.is_empty());
    }
}

#[test]
fn impossible_numbers_are_out_of_range_and_nothing_else() {
    for number in
        ["nan", "-inf", "+inf", "1e999", "99999999999999999999999", "-1", "0xFFFFFFFFFFFFFFFFFF", "1e-320"]
    {
        for key in ["holding", "scale", "min", "deadband", "bit", "registers", "stale_after"] {
            let tag = format!("tags.a = {{ coil = 0, {key} = {number} }}");
            let text = format!(
                "[gateway]\nid = \"g\"\n[device.d]\nbus = \"b\"\nunit = {number}\n[[device.d.poll]]\nevery = {number}\n{tag}\n"
            );
            assert!(!refuse(&text).list.is_empty());
        }
    }
}

#[test]
fn large_configuration_is_read_whole() {
    let mut text =
        "[gateway]\nid = \"g\"\n[uplink.u]\nurl = \"mqtt://h\"\n[bus.b]\ndriver = \"sim\"\n".to_owned();
    for device in 1..=20 {
        text += &format!(
            "[device.d{device}]\nbus = \"b\"\nunit = {device}\n[[device.d{device}.poll]]\nevery = \"1s\"\n"
        );
        for tag in 0..250 {
            text += &format!("tags.t{tag} = {{ holding = {}, type = \"f32\", unit = \"V\" }}\n", tag * 2);
        }
    }
    let (config, _) =
        parse(&text, "x.toml", Path::new("/x"), &Environment::default()).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(config.field.tags.len(), 5000);
    assert_eq!(config.field.groups.len(), 20);
}

/// A gateway with so many Modbus TCP devices, each on a bus of its own.
fn tcp_site(buses: usize) -> String {
    let mut text = "[gateway]\nid = \"g\"\n[uplink.u]\nurl = \"mqtt://h\"\n".to_owned();
    for n in 1..=buses {
        text += &format!(
            "[bus.b{n}]\ndriver = \"modbus-tcp\"\nhost = \"10.0.{}.{}\"\n[device.d{n}]\nbus = \"b{n}\"\nunit = 1\n\
             [[device.d{n}.poll]]\nevery = \"1s\"\ntags.t = {{ holding = 0, type = \"u16\" }}\n",
            n / 250,
            n % 250 + 1
        );
    }
    text
}

#[test]
fn two_hundred_and_fifty_six_buses_are_taken_and_one_more_is_refused_in_one_sentence() {
    let read = |text: &str| parse(text, "x.toml", Path::new("/x"), &Environment::default());
    let (config, _) = read(&tcp_site(256)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(config.field.buses.len(), 256);
    let text = tcp_site(257);
    let line = text.lines().position(|line| line == "[bus.b257]").unwrap() + 1;
    let refused = |text: &str| read(text).unwrap_err().to_string();
    let sentence =
        "257 buses, expected at most 256 for one gateway: move `b257` and those after it to a second gateway";
    assert_eq!(refused(&text), format!("x.toml:{line}:6: {sentence}"));
    // Nothing else that is wrong buries it, before it in the file or behind it.
    let wrong = text.replace("[gateway]\n", "[gateway]\nnone_such = 1\n").replace("unit = 1", "unit = 999");
    assert_eq!(refused(&wrong), format!("x.toml:{}:6: {sentence}", line + 1));
}

#[test]
fn too_many_devices_uplinks_or_listeners_are_refused_in_one_sentence_too() {
    let many = |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    for (text, sentence) in [
        (many(2001, |n| format!("[device.d{n}]\n")), "2001 devices, expected at most 2000"),
        (many(9, |n| format!("[uplink.u{n}]\n")), "9 uplinks, expected at most 8"),
        (many(17, |n| format!("[broker.listener.l{n}]\n")), "17 listeners, expected at most 16"),
    ] {
        let problems = refuse(&text);
        assert_eq!(problems.list.len(), 1, "{problems}");
        assert!(problems.to_string().contains(sentence), "{problems}");
        assert_eq!(problems.more, 0);
    }
}

/// 50 devices with this many tags each, of which one in ten has an address that no device has.
fn tags_of_fifty(each: usize) -> String {
    let mut text = String::from("[gateway]\nid = \"g\"\n[bus.b]\ndriver = \"modbus-tcp\"\naddress = \"h\"\n");
    for device in 1..=50 {
        let _ = write!(
            text,
            "[device.d{device}]\nbus = \"b\"\nunit = {device}\n[[device.d{device}.poll]]\nevery = \"1m\"\n"
        );
        for tag in 0..each {
            let address = if tag % 10 == 3 { 99_999 } else { tag };
            let _ = writeln!(text, "tags.t{tag} = {{ holding = {address}, type = \"u16\" }}");
        }
    }
    text
}

#[test]
fn the_tags_that_are_counted_are_those_of_the_file_also_where_some_are_wrong_or_lines_are_broken() {
    let text = tags_of_fifty(1100);
    let said = refuse(&text).to_string();
    assert!(said.contains(": 55000 tags, expected at most 50000 for one gateway"), "{said}");
    // More devices than are read have tags, too.
    let mut many = text.clone();
    for device in 51..=2001 {
        let _ = write!(
            many,
            "[device.d{device}]\nbus = \"b\"\nunit = 1\n[[device.d{device}.poll]]\nevery = \"1m\"\ntags.t = {{ holding = 1 }}\n"
        );
    }
    let said = refuse(&many).to_string();
    assert!(said.contains(": 56951 tags, expected at most") && said.contains(": 2001 devices,"), "{said}");
    let broken = text.replacen("tags.t9 = {", "tags.t9 = = {", 1);
    let said = refuse(&broken).to_string();
    assert!(said.contains(": more than 50000 tags, expected at most 50000 for one gateway"), "{said}");
    assert!(!refuse(&tags_of_fifty(1000)).to_string().contains(" tags, expected"));
}

#[test]
fn what_has_a_wrong_name_or_is_wrong_itself_is_counted_too() {
    let many = |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    for (text, sentence) in [
        (
            format!("{}[bus.\"a b\"]\n", many(257, |n| format!("[bus.b{n}]\n"))),
            "258 buses, expected at most 256",
        ),
        (
            format!("{}[uplink.\"a/b\"]\n", many(9, |n| format!("[uplink.u{n}]\n"))),
            "10 uplinks, expected at most 8",
        ),
        (
            format!("[broker.listener.\"a b\"]\n{}", many(17, |n| format!("[broker.listener.l{n}]\n"))),
            "18 listeners, expected at most 16",
        ),
    ] {
        let problems = refuse(&text).to_string();
        assert!(problems.contains(sentence), "{problems}");
    }
    let urls = many(9, |n| format!("\"mqtt://h{n}\", "));
    let text = format!("[gateway]\nid = \"g\"\n[uplink.u]\nurls = [{urls}\"\", 7]\n");
    let said = refuse(&text).to_string();
    assert!(said.contains("`urls` has 11 servers, expected 1 to"), "{said}");
}

#[test]
fn a_file_of_which_only_the_beginning_is_read_is_not_given_a_size() {
    let said = load_bytes(&vec![b'a'; FILE_BYTES_MAX + 4711]);
    assert!(
        said.contains("the file has more bytes than are read, expected at most 4194304 (4 MiB)"),
        "{said}"
    );
}

#[test]
fn credentials_of_systemd_are_found_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mqtt"), "hunter2\n").unwrap();
    let text = "[gateway]\nid = \"g\"\n[uplink.u]\nurl = \"mqtt://h\"\nusername = \"me\"\npassword_credential = \"mqtt\"\n";
    let env = Environment { credentials_dir: Some(folder.path().to_path_buf()) };
    let (config, _) = parse(text, "x.toml", Path::new("/x"), &env).unwrap_or_else(|p| panic!("{p}"));
    let (name, password) = config.uplinks[0].1.login.clone().unwrap();
    assert_eq!((name.as_str(), password.unwrap().reveal()), ("me", "hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    // `LoadCredential=keys:FOLDER` puts the name of the credential before that of the file; provisioning sees the folder itself.
    for (file, named) in [("keys_mqtt", "mqtt"), ("keys_mqtt", "keys_mqtt"), ("mqtt", "keys_mqtt")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), "hunter2\n").unwrap();
        let env = Environment { credentials_dir: Some(folder.path().to_path_buf()) };
        let text = text.replace("\"mqtt\"\n", &format!("\"{named}\"\n"));
        parse(&text, "x.toml", Path::new("/x"), &env).unwrap_or_else(|p| panic!("{named} as {file}: {p}"));
    }
    let outside = text.replace("\"mqtt\"\n", "\"../etc/passwd\"\n");
    let message = parse(&outside, "x.toml", Path::new("/x"), &env).unwrap_err().to_string();
    assert!(message.contains("holds '/'"), "{message}");
}

/// The hash goes to the cloud in the birth message: nobody there can try passwords on it.
#[test]
fn hash_of_the_file_says_nothing_about_a_password_in_it() {
    let hash = |password: &str, id: &str| {
        let text = format!(
            "[gateway]\nid = \"{id}\"\n[network.wifi]\nssid = \"s\"\npassword = \"{password}\"\ncountry = \"DE\"\n"
        );
        let (config, _) = parse(&text, "x.toml", Path::new("/x"), &Environment::default()).unwrap();
        assert!(!format!("{config:?}").contains(password));
        config.hash
    };
    assert_eq!(hash("hunter2hunter2", "g"), hash("12345678", "g"));
    assert_ne!(hash("hunter2hunter2", "g"), hash("hunter2hunter2", "h"));
}

#[test]
fn secrets_are_in_no_message_and_no_debug_text() {
    for line in [
        "password = \"hunter2\"",
        "password = hunter2",
        "password hunter2",
        "password: hunter2",
        "password = \"hunter2",
        "password_file = \"hunter2\"",
        "password_file = hunter2",
        "password_file = 'hunter2",
        "password_file = [\"hunter2\"]",
        "url = \"mqtts://me:hunter2@h\"",
        "url = mqtts://me:hunter2@h",
        "url = \"me:hunter2@h\"",
        "url = \"https://me:hunter2@h/x\"",
        "url = \"ssl://hunter2@h\"",
        "url = \"hunter2@h\"",
        "proxy = \"http://me:hunter2@h:1\"",
        "proxy = \"socks5://me:hunter2@h:1\"",
    ] {
        let text = format!("[gateway]\nid = \"g\"\n[uplink.u]\n{line}\n");
        let message = refuse(&text).to_string();
        assert!(!message.contains("hunter2"), "{line}\n{message}");
    }
    for line in [
        "password = \"hunter2\"",
        "password = hunter2",
        "password = \"hunter2\u{e4}\u{e4}\"",
        "password = [\"hunter2\"]",
        "psk = \"hunter2hunter2\"",
        "passphrase = \"hunter2hunter2\"",
        "passwort = \"hunter2hunter2\"",
        "password_file = \"hunter2hunter2\"",
    ] {
        let text = format!("[gateway]\nid = \"g\"\n[network.wifi]\nssid = \"s\"\ncountry = \"DE\"\n{line}\n");
        let message = refuse(&text).to_string();
        assert!(!message.contains("hunter2"), "{line}\n{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz_toml(&bytes);
    }

    #[test]
    fn any_toml_like_text_gives_an_answer(text in "([a-z]{1,3}[.=]|[\\[\\]{}\"'#,\n ]|[0-9]{1,4}|\"[^\"]{0,6}\"|[äµ\u{0}\t\r\\\\]){0,120}") {
        fuzz_toml(text.as_bytes());
    }

    #[test]
    fn the_example_with_a_few_changes_gives_an_answer(
        changes in proptest::collection::vec((0..EXAMPLE.len(), 0..40_usize, "[\\[\\]{}=\"'#,.\n a-z0-9äµ\\\\-]{0,12}"), 1..6)
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, cut, insert) in changes {
            let at = at.min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, insert.bytes());
        }
        fuzz_toml(String::from_utf8_lossy(&bytes).as_bytes());
    }

    #[test]
    fn the_example_with_its_lines_shuffled_gives_an_answer(seed in any::<u64>()) {
        let mut lines: Vec<_> = EXAMPLE.lines().collect();
        let mut state = seed;
        for at in (1..lines.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            lines.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        fuzz_toml(lines.join("\n").as_bytes());
    }
}

#[test]
fn nothing_hidden_in_a_file_reaches_the_terminal_in_a_message() {
    for hidden in ["\u{202e}", "\u{200b}", "\\u001B", "\\u009B", "\\u202E"] {
        for line in [
            format!("[gateway]\nid = \"a{hidden}b\"\n"),
            format!("[gateway]\n\"a{hidden}b\" = 1\n"),
            format!("[gateway]\nid = \"g\"\n[bus.a]\ndriver = \"si{hidden}m\"\n"),
            format!(
                "[gateway]\nid = \"g\"\n[bus.a]\ndriver = \"modbus-rtu\"\nport = \"/dev/tty{hidden}\"\nbaud = \"9{hidden}6\"\n"
            ),
            format!("[gateway]\nid = \"g\"\n[bus.\"a{hidden}\"]\ndriver = \"sim\"\n"),
            format!(
                "[gateway]\nid = \"g\"\n[uplink.c]\nurl = \"mqtts://a{hidden}b\"\ntls_ca = \"a{hidden}b\"\n"
            ),
            format!("[gateway]\nid = \"g\"\n[device.d]\nbus = \"a{hidden}b\"\n"),
            format!("[gateway]\nid = \"g\"\n[broker.listener.l]\naddress = \"a{hidden}b\"\n"),
            format!("[gateway]\nid = g{hidden}\n"),
        ] {
            let said = parse(&line, "a.toml", Path::new("/nowhere"), &Environment::default()).unwrap_err();
            let said = said.to_string();
            let shown = said.chars().find(|c| *c != '\n' && gateway_core::text::is_hidden(*c));
            assert_eq!(shown, None, "{line:?}: {said:?}");
        }
    }
}
