//! What is told of certificates that end, with certificates of rcgen.

use gateway_config::{Environment, load, load_installed};
use gateway_core::wall::Doubt;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use super::*;

/// 2026-11-30T00:00:00Z.
const TODAY_S: u64 = 1_795_996_800;
const DAY_S: u64 = 86_400;

/// A certificate that ends on a day, and its key; for servers and clients, of its own authority.
fn pair(ends: (i32, u8, u8)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (date_time_ymd(2020, 1, 1), date_time_ymd(ends.0, ends.1, ends.2));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder with the certificates of an uplink and of a listener, and their configuration.
fn plant(uplink: (i32, u8, u8), listener: (i32, u8, u8)) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (name, ends) in [("up", uplink), ("door", listener)] {
        let (cert, key) = pair(ends);
        write(&format!("{name}.pem"), &cert);
        write(&format!("{name}.key"), &key);
    }
    let text = "[gateway]\nid = \"plant7\"\n[uplink.cloud]\nurl = \"mqtts://broker.example.com\"\nclient_cert = \"up.pem\"\nclient_key = \"up.key\"\n\
                [broker.listener.plant]\naddress = \"127.0.0.1:8883\"\ncert = \"door.pem\"\nkey = \"door.key\"\nanonymous = true\n";
    write("gateway.toml", text);
    folder
}

fn config(folder: &tempfile::TempDir) -> Config {
    let (config, warnings) =
        load(&folder.path().join("gateway.toml"), &Environment::default()).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(warnings.len(), 1, "only that sessions end: {warnings:?}");
    config
}

fn wall(seconds: u64) -> Option<WallMs> {
    i64::try_from(seconds * 1000).ok().map(WallMs)
}

#[test]
fn check_warns_of_a_certificate_that_ended_yesterday_when_the_clock_can_be_believed_and_refuses_nothing() {
    let folder = plant((2026, 11, 29), (2027, 1, 31));
    let config = config(&folder);
    let said = |now_s: u64| -> Vec<String> {
        let now = Ok(wall(now_s).unwrap());
        warnings(&config, now).iter().map(ToString::to_string).collect()
    };
    let told = said(TODAY_S);
    let path = folder.path().join("up.pem");
    let start =
        format!("{}:1:1: warning: `client_cert` of uplink `cloud` ended on 2026-11-29, so", path.display());
    assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
    // A clock of 1970 has never been set, and one that is believed then is not this one's fault.
    assert_eq!(said(0).len(), 2, "both begin later");
    let told = said(TODAY_S + 40 * DAY_S);
    assert!(
        told.len() == 2
            && told[1].contains("`cert` of listener `plant` ends on 2027-01-31, in less than 30 days"),
        "{told:?}"
    );
}

#[test]
fn without_a_clock_that_can_be_believed_it_is_said_that_the_end_of_a_certificate_was_not_judged() {
    let folder = plant((2025, 6, 1), (2027, 1, 31));
    let config = config(&folder);
    let since = wall(TODAY_S).unwrap();
    let told = warnings(&config, Err(Unknown { doubt: Doubt::NoServer, since }));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    // The system was built after its end, so no clock is needed to know it.
    assert!(told[0].contains("`client_cert` of uplink `cloud` ended on 2025-06-01"), "{told:?}");
    let expected = "`cert` of listener `plant` ends on 2027-01-31; whether that day has passed is not judged: no clock can be believed yet (no time \
                    server has answered)";
    assert!(told.len() == 2 && told[1].ends_with(expected), "{told:?}");
}

#[test]
fn a_certificate_is_told_of_once_for_each_term_whatever_is_read_again() {
    let folder = plant((2027, 1, 1), (2030, 1, 1));
    let shown = read(&places(&config(&folder)));
    assert_eq!(shown.len(), 2);
    let mut told = Told::default();
    let mut terms = Vec::new();
    // Every hour from today on until two days after the end.
    for hour in 0..34 * 24 {
        let now_s = TODAY_S + hour * 3600;
        terms.extend(
            told.news(&shown, now_s).into_iter().map(|(shown, term)| (shown.place.name.as_str(), term)),
        );
        // What a reload reads is the same.
        assert_eq!(told.news(&shown.clone(), now_s), []);
    }
    let cloud = |term| ("cloud", term);
    assert_eq!(terms, [Term::Within(30), Term::Within(7), Term::Within(1), Term::Ended].map(cloud));
    // Renewed: that is news once.
    let (cert, _) = pair((2031, 1, 1));
    std::fs::write(folder.path().join("up.pem"), cert).unwrap();
    let renewed = read(&places(&config_installed(&folder)));
    let now_s = TODAY_S + 34 * DAY_S;
    let news = told.news(&renewed, now_s);
    assert_eq!(news.iter().map(|(_, term)| *term).collect::<Vec<_>>(), [Term::Fine]);
    assert_eq!(told.news(&renewed, now_s), []);
    // One that is taken out of the configuration and comes back is told again.
    assert_eq!(told.news(&[], now_s), []);
    assert_eq!(told.news(&shown, now_s).len(), 1);
}

fn config_installed(folder: &tempfile::TempDir) -> Config {
    load_installed(&folder.path().join("gateway.toml"), &Environment::default())
        .unwrap_or_else(|problems| panic!("{problems}"))
        .0
}

#[test]
fn check_refuses_the_key_of_another_certificate_and_a_start_goes_on_with_it() {
    let folder = plant((2030, 1, 1), (2030, 1, 1));
    std::fs::copy(folder.path().join("door.key"), folder.path().join("up.key")).unwrap();
    let problems = load(&folder.path().join("gateway.toml"), &Environment::default()).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.contains("gateway.toml:6:14: `client_key` = ")
            && text.contains("up.key does not belong to the certificate"),
        "{text}"
    );
    assert_eq!(config_installed(&folder).uplinks.len(), 1);
}

#[test]
fn files_that_cannot_be_read_are_not_shown() {
    let folder = plant((2030, 1, 1), (2030, 1, 1));
    let config = config(&folder);
    std::fs::remove_file(folder.path().join("up.pem")).unwrap();
    std::fs::write(
        folder.path().join("door.pem"),
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert_eq!(read(&places(&config)), []);
}

#[tokio::test]
async fn a_reload_of_the_same_places_reads_nothing_anew_and_another_place_is_read() {
    let folder = plant((2026, 12, 24), (2030, 1, 1));
    let before = config(&folder);
    let mut running = Certificates::of(&before);
    running.read.changed().await.unwrap();
    running.read.mark_changed();
    running.observe(Some(TODAY_S));
    assert_eq!(running.shown().len(), 2);
    let first = Arc::clone(&running.shown);
    running.replace(&before);
    running.observe(Some(TODAY_S));
    assert!(Arc::ptr_eq(&first, &running.shown));
    let mut after = before.clone();
    after.broker = None;
    running.replace(&after);
    running.read.changed().await.unwrap();
    running.read.mark_changed();
    running.observe(Some(TODAY_S));
    assert_eq!(running.shown().len(), 1);
    assert!(running.told.news(running.shown.clone().as_slice(), TODAY_S).is_empty(), "it was told before");
}

#[test]
fn the_picture_says_how_long_a_certificate_lasts_and_whether_somebody_has_to_act() {
    let folder = plant((2026, 12, 5), (2026, 12, 24));
    let shown = read(&places(&config(&folder)));
    let seen: Vec<_> = shown.iter().map(|shown| picture(shown, Some(TODAY_S))).collect();
    assert_eq!((seen[0].left_s, seen[0].urgent), (Some(5 * 86_400), true));
    assert_eq!((seen[1].left_s, seen[1].urgent), (Some(24 * 86_400), false));
    assert_eq!(
        (seen[0].room.as_str(), seen[0].name.as_str(), seen[0].key.as_str()),
        ("uplink", "cloud", "client_cert")
    );
    assert_eq!(seen[0].ends, "2026-12-05");
    let ended = picture(&shown[0], Some(TODAY_S + 6 * DAY_S));
    assert!(ended.left_s == Some(-86_400) && ended.urgent && ended.remark.is_some(), "{ended:?}");
    let unknown = picture(&shown[0], None);
    assert_eq!((unknown.left_s, unknown.remark, unknown.urgent), (None, None, false));
}
