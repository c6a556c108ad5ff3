//! Access against a naive model, and the ways around it that must not exist.

use proptest::prelude::*;

use super::*;
use crate::broker::topic::{TopicFilter, TopicName};

fn who(client: &str, user: Option<&str>) -> Identity {
    Identity { client: client.into(), user: user.map(Into::into) }
}

fn rules(allow: &[&str], deny: &[&str]) -> Vec<Rule> {
    let read = |allow, list: &[&str]| -> Vec<_> {
        list.iter().map(|text| Rule::parse(allow, text).unwrap()).collect()
    };
    let mut list = read(false, deny);
    list.extend(read(true, allow));
    list
}

fn everybody(allow: &[&str], deny: &[&str]) -> Grants {
    let access = Access { everybody: rules(allow, deny), ..Access::default() };
    access.grants(&who("plc", None))
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

#[test]
fn without_rules_whoever_is_let_in_may_do_everything_but_speak_for_the_broker() {
    let grants = Access::default().grants(&who("plc", None));
    assert!(grants.may_publish(&name("a/b")) && grants.may_subscribe(&filter("#")));
    assert!(grants.may_receive(&name("$SYS/uptime")) && grants.may_subscribe(&filter("$SYS/#")));
    assert!(!grants.may_publish(&name("$SYS/uptime")) && !grants.may_publish(&name("$SYS")));
    assert!(grants.may_publish(&name("$SYSTEM/x")));
}

#[test]
fn what_no_rule_allows_is_refused_once_something_is_allowed() {
    let grants = everybody(&["publish sensor/%c/#", "subscribe cmd/%c/#", "any chat"], &[]);
    for (topic, publish, receive) in [
        ("sensor/plc/1", true, false),
        ("sensor/plc", true, false),
        ("sensor/other/1", false, false),
        ("cmd/plc/x", false, true),
        ("chat", true, true),
        ("chat/x", false, false),
    ] {
        assert_eq!(grants.may_publish(&name(topic)), publish, "{topic}");
        assert_eq!(grants.may_receive(&name(topic)), receive, "{topic}");
    }
}

#[test]
fn rules_that_only_deny_leave_the_rest_alone() {
    let grants = everybody(&[], &["publish admin/#", "any secret/+"]);
    assert!(grants.may_publish(&name("x")) && !grants.may_publish(&name("admin")));
    assert!(grants.may_subscribe(&filter("admin/#")) && grants.may_subscribe(&filter("#")));
    assert!(!grants.may_subscribe(&filter("secret/x")) && grants.may_subscribe(&filter("secret/x/y")));
}

#[test]
fn the_rules_of_the_client_come_before_those_of_its_user_and_of_everybody() {
    let client = Client { users: None, rules: rules(&["publish a"], &["publish b"]) };
    let user = User { hash: None, rules: rules(&["publish b", "publish c"], &["publish d"]) };
    let access = Access {
        users: [("me".into(), user)].into(),
        clients: [("plc".into(), client)].into(),
        everybody: rules(&["publish d", "publish e"], &["publish a", "publish c"]),
    };
    let may = |client, user, topic| access.grants(&who(client, user)).may_publish(&name(topic));
    for (topic, allowed) in [("a", true), ("b", false), ("c", true), ("d", false), ("e", true), ("f", false)]
    {
        assert_eq!(may("plc", Some("me"), topic), allowed, "{topic}");
    }
    assert!(may("other", Some("me"), "b") && !may("other", None, "b") && !may("other", Some("you"), "b"));
}

#[test]
fn a_subscription_is_allowed_if_anything_of_it_is() {
    let grants = everybody(&["subscribe a/#", "subscribe b/+/c"], &["subscribe a/x/#"]);
    for (text, allowed) in [
        ("a", true),
        ("a/y/#", true),
        ("a/y", true),
        ("a/#", true), // without a/x
        ("a/+", true),
        ("a/+/y", true),
        ("a/x/y", false),
        ("a/x/#", false),
        ("a/x/+", false),
        ("b/+/c", true),
        ("b/z/c", true),
        ("b/#", true),
        ("b/+", false),
        ("+/z/c", true),
        ("+/z", true),
        ("c/#", false),
        ("#", true),
        ("+", true),
        ("+/+/+/+", true),
        ("+/x/+/+", false),
    ] {
        assert_eq!(grants.may_subscribe(&filter(text)), allowed, "{text}");
    }
}

#[test]
fn a_filter_of_which_several_rules_together_deny_everything_is_refused() {
    let grants = everybody(&["subscribe a", "subscribe a/+", "subscribe a/+/+/#"], &[]);
    assert!(grants.may_subscribe(&filter("a/#")) && grants.may_subscribe(&filter("a/+/#")));
    assert!(grants.may_subscribe(&filter("+/#")) && !grants.may_subscribe(&filter("b")));
    let grants = everybody(&["subscribe #"], &["subscribe a", "subscribe a/+", "subscribe a/+/+/#"]);
    assert!(!grants.may_subscribe(&filter("a/#")) && !grants.may_subscribe(&filter("a/+/#")));
    assert!(grants.may_subscribe(&filter("+/#")) && grants.may_subscribe(&filter("#")));
}

#[test]
fn the_state_of_the_broker_is_readable_unless_a_rule_says_otherwise() {
    assert!(everybody(&["subscribe a"], &[]).may_subscribe(&filter("$SYS/#")));
    assert!(!everybody(&["subscribe a"], &["subscribe $SYS/#"]).may_subscribe(&filter("$SYS/broker/+")));
    assert!(!everybody(&["any #"], &["any $SYS/#"]).may_receive(&name("$SYS/uptime")));
    assert!(!everybody(&["any $SYS/#"], &[]).may_publish(&name("$SYS/uptime")));
    // `#` takes nothing that begins with `$`, so neither allows nor denies it.
    assert!(everybody(&["any #"], &[]).may_subscribe(&filter("#")));
    // `/#` includes its parent by the words of 4.7.1.2, which is no topic: it has no character.
    assert!(!everybody(&["any #"], &["any a", "any +/+/#"]).may_subscribe(&filter("/#")));
    assert!(!everybody(&["any #"], &[]).may_subscribe(&filter("$priv/x")));
}

#[test]
fn a_strange_client_id_gains_nothing_and_is_counted() {
    let access =
        Access { everybody: rules(&["any own/%c/#", "any x"], &["any keep/%c/out"]), ..Access::default() };
    for client in ["+", "#", "a/b", "/", "own/#"] {
        let grants = access.grants(&who(client, None));
        assert_eq!(grants.unfit(), 2, "{client:?}");
        assert!(!grants.may_subscribe(&filter("own/#")) && !grants.may_subscribe(&filter("own/+/#")));
        assert!(!grants.may_receive(&name("own/a/b")) && grants.may_subscribe(&filter("#")), "`x` is in it");
        assert!(!grants.may_publish(&name("own/a/b")) && !grants.may_publish(&name("keep/a/b/out")));
        assert!(grants.may_publish(&name("x")));
    }
    assert_eq!(access.grants(&who("plc", None)).unfit(), 0);
}

#[test]
fn rules_that_are_costly_to_compare_cost_a_bounded_number_of_steps_and_are_granted() {
    // Every level of every rule is a name or `+`, and only the last level of the last one allows anything: no path is settled early.
    let mut texts = Vec::new();
    for bits in 0_u32..150 {
        let mixed = bits.wrapping_mul(2_654_435_761);
        let level = |at: u32| if mixed >> at & 1 == 1 { "+".to_owned() } else { format!("n{}", bits % 7) };
        let levels: Vec<_> = (0..12_u32).map(level).collect();
        texts.push(format!("subscribe {}", levels.join("/")));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let denied = "subscribe +/+/+/+/+/+/+/+/+/+/+/+";
    let grants = everybody(&[denied], &[&texts[..], &[denied]].concat());
    let (granted, steps) = grants.subscribe_steps(&filter("+/+/+/+/+/+/+/+/+/+/+/+"));
    assert!(granted && steps > STEPS_MAX, "{steps} steps, given up");
    assert!(steps <= STEPS_MAX + texts.len() + 4, "{steps} steps: one level more at most");
    assert!(!grants.may_receive(&name("n0/n0/n0/n0/n0/n0/n0/n0/n0/n0/n0/n0")), "what is denied stays denied");
    assert!(everybody(&texts[..1], &[]).may_subscribe(&filter("n0/n0/n0/n0/n0/n0/n0/n0/n0/n0/n0/n0")));
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 3 => Just("b"), 3 => Just("+"), 1 => Just(""), 1 => Just("$a")]
}

fn any_filter() -> impl Strategy<Value = String> {
    (proptest::collection::vec(level(), 0..4), any::<bool>()).prop_filter_map(
        "not empty",
        |(levels, hash)| {
            let mut levels = levels;
            if hash || levels.is_empty() {
                levels.push("#");
            }
            let text = levels.join("/");
            TopicFilter::new(text.as_str()).ok().map(|_| text)
        },
    )
}

/// All topics of up to five levels: rules have at most four, and what is beyond is like the fifth. `z` stands for every name that
/// no rule has.
fn topics() -> Vec<TopicName> {
    let alphabet = ["a", "b", "", "$a", "z"];
    let mut all = Vec::new();
    let mut last: Vec<String> = vec![];
    for depth in 0..5 {
        let next: Vec<String> = if depth == 0 {
            alphabet.iter().map(|l| (*l).to_owned()).collect()
        } else {
            last.iter().flat_map(|head| alphabet.iter().map(move |l| format!("{head}/{l}"))).collect()
        };
        all.extend(next.iter().filter_map(|t| TopicName::new(t.as_str()).ok()));
        last = next;
    }
    all
}

thread_local! {
    static TOPICS: Vec<TopicName> = topics();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_is_granted_exactly_when_a_topic_that_it_takes_is_allowed(
        list in proptest::collection::vec((any::<bool>(), any_filter()), 0..6),
        wanted in any_filter(),
    ) {
        let parsed = list.iter().map(|(allow, f)| Rule { allow: *allow, deed: Deed::Any, filter: f.as_str().into() });
        let access = Access { everybody: parsed.collect(), ..Access::default() };
        let grants = access.grants(&who("plc", None));
        let wanted = filter(&wanted);
        let naive = |topic: &TopicName| {
            list.iter()
                .find(|(_, f)| filter(f).matches(topic))
                .map_or_else(|| !list.iter().any(|(allow, _)| *allow), |(allow, _)| *allow)
        };
        TOPICS.with(|topics| {
            let mut any = false;
            for topic in topics {
                prop_assert_eq!(grants.may_receive(topic), naive(topic));
                prop_assert_eq!(grants.may_publish(topic), naive(topic));
                any |= wanted.matches(topic) && naive(topic);
            }
            prop_assert_eq!(grants.may_subscribe(&wanted), any);
            Ok(())
        })?;
    }
}

const HASH: &str = "$argon2id$v=19$m=7168,t=5,p=1$c29tZXNhbHQ$Zm9vYmFyYmF6Zm9vYmFyYmF6";

fn with_users() -> Access {
    let user = |hash: Option<&str>| User { hash: hash.map(Into::into), rules: Vec::new() };
    let own = Client { users: Some(vec!["me".into()]), rules: Vec::new() };
    Access {
        users: [("me".into(), user(Some(HASH))), ("card".into(), user(None))].into(),
        clients: [("mine".into(), own)].into(),
        everybody: Vec::new(),
    }
}

fn claim<'a>(client: &'a str, user: Option<&'a str>, password: Option<&'a [u8]>) -> Claim<'a> {
    Claim { client, certificate: None, anonymous: false, user, password }
}

#[test]
fn a_known_user_is_compared_with_its_hash_and_any_other_with_nobodys() {
    let access = with_users();
    let hash = |client, user| match access.login(&claim(client, Some(user), Some(b"x"))) {
        Login::Verify { hash, .. } => hash,
        other => panic!("{other:?}"),
    };
    assert_eq!(&*hash("c", "me"), HASH);
    let nobody = hash("c", "stranger");
    assert_ne!(&*nobody, HASH);
    assert!(
        nobody.starts_with("$argon2id$v=19$m=7168,t=5,p=1$c29tZXNhbHQ$AAAA") && nobody.len() == HASH.len()
    );
    assert_eq!(hash("c", "card"), nobody, "a user without a password");
    assert_eq!(hash("c", ""), nobody);
    assert_eq!(&*hash("mine", "me"), HASH);
}

#[test]
fn a_client_id_that_belongs_to_a_user_is_nobody_elses() {
    let access = with_users();
    let Login::Verify { hash, .. } = access.login(&claim("mine", Some("card"), Some(b"x"))) else { panic!() };
    assert!(hash.contains("$AAAA"));
    let anonymous = Claim { anonymous: true, ..claim("mine", None, None) };
    assert_eq!(access.login(&anonymous), Login::NotAuthorized);
    let card = Claim { certificate: Some("card"), ..claim("mine", None, None) };
    assert_eq!(access.login(&card), Login::NotAuthorized);
    let me = Claim { certificate: Some("me"), ..claim("mine", None, None) };
    assert_eq!(access.login(&me), Login::Accepted(Some("me".into())));
}

#[test]
fn nobody_comes_in_only_where_nobody_may() {
    let access = with_users();
    assert_eq!(access.login(&claim("c", None, None)), Login::NotAuthorized);
    assert_eq!(access.login(&claim("c", None, Some(b"x"))), Login::NotAuthorized);
    assert_eq!(access.login(&claim("c", Some("me"), None)), Login::BadPassword);
    let long = [b'x'; PASSWORD_BYTES_MAX + 1];
    assert_eq!(access.login(&claim("c", Some("me"), Some(&long))), Login::BadPassword);
    let anonymous = Claim { anonymous: true, ..claim("c", None, None) };
    assert_eq!(access.login(&anonymous), Login::Accepted(None));
    // Who claims to be somebody has to prove it even where nobody is let in.
    let claimed = Claim { anonymous: true, ..claim("c", Some("me"), Some(b"x")) };
    assert!(matches!(access.login(&claimed), Login::Verify { .. }));
}

#[test]
fn a_certificate_is_its_user_whatever_connect_says() {
    let claim = Claim { certificate: Some("card"), ..claim("c", Some("me"), Some(b"x")) };
    assert_eq!(with_users().login(&claim), Login::Accepted(Some("card".into())));
}

#[test]
fn without_any_user_credentials_are_ignored_where_everybody_is_let_in() {
    let open = Claim { anonymous: true, ..claim("c", Some("me"), Some(b"x")) };
    assert_eq!(Access::default().login(&open), Login::Accepted(None));
    let long = [b'x'; PASSWORD_BYTES_MAX + 1];
    let nonsense = Claim { password: Some(&long), ..open };
    assert_eq!(Access::default().login(&nonsense), Login::Accepted(None));
    let alone = Claim { password: None, ..open };
    assert_eq!(Access::default().login(&alone), Login::Accepted(None));
    let closed = Claim { anonymous: false, ..open };
    assert!(
        matches!(Access::default().login(&closed), Login::Verify { known: false, .. }),
        "a listener for certificates"
    );
    assert!(matches!(with_users().login(&open), Login::Verify { .. }), "somebody is known");
    let own = Access { clients: with_users().clients, ..Access::default() };
    assert_eq!(
        own.login(&Claim { client: "mine", ..open }),
        Login::NotAuthorized,
        "it is nobody all the same"
    );
    let certified = Claim { certificate: Some("card"), ..open };
    assert_eq!(Access::default().login(&certified), Login::Accepted(Some("card".into())));
}
