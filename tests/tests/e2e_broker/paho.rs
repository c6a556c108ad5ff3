//! Paho of PyPI and mqtt of npm: one scenario after the other, every version of MQTT.

use tidegate_tests::clients::{mqtt_js, paho};
use tidegate_tests::yard::{OPEN, Yard};

const VERSIONS: [&str; 3] = ["3.1", "3.1.1", "5"];

/// Runs a scenario with every version, against one gateway.
async fn every_version(scenario: &str, argument: Option<&str>) {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    for version in VERSIONS {
        let words: Vec<&str> = [scenario, version].into_iter().chain(argument).collect();
        paho(port, &words).await.unwrap_or_else(|fault| panic!("{version}: {fault}\n{}", yard.gateway.log()));
    }
    yard.gateway.stop().await.unwrap();
}

async fn version_5(scenario: &str) {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    paho(port, &[scenario]).await.unwrap_or_else(|fault| panic!("{fault}\n{}", yard.gateway.log()));
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn paho_hears_the_lower_qos_of_publish_and_subscription_in_every_version() {
    every_version("matrix", None).await;
}

#[tokio::test]
async fn paho_misses_nothing_while_it_is_away_in_every_version() {
    every_version("sessions", None).await;
}

#[tokio::test]
async fn paho_sends_payloads_of_any_size_on_topics_of_any_kind() {
    // The default limit of a packet is 256 KiB.
    every_version("payloads", Some("262000")).await;
}

#[tokio::test]
async fn paho_subscribes_to_two_hundred_filters_at_once() {
    every_version("filters", None).await;
}

#[tokio::test]
async fn a_will_of_paho_comes_when_it_vanishes_and_not_when_it_says_goodbye() {
    every_version("wills", None).await;
}

#[tokio::test]
async fn retained_messages_of_paho_are_set_delivered_and_cleared() {
    every_version("retained", None).await;
}

#[tokio::test]
async fn a_second_paho_of_the_same_name_takes_over() {
    every_version("takeover", None).await;
}

#[tokio::test]
async fn subscription_options_of_paho_hold() {
    version_5("options").await;
}

#[tokio::test]
async fn properties_of_paho_travel_and_requests_are_answered() {
    version_5("requests").await;
}

#[tokio::test]
async fn limits_and_aliases_of_paho_hold() {
    version_5("limits").await;
}

#[tokio::test]
async fn a_delayed_will_of_paho_waits_and_is_forgotten_when_its_client_is_back() {
    version_5("will_delay").await;
}

#[tokio::test]
async fn members_of_a_group_share_messages_and_others_hear_all() {
    version_5("shared").await;
}

#[tokio::test]
async fn messages_of_paho_expire_while_their_reader_is_away() {
    version_5("expiry").await;
}

#[tokio::test]
async fn mqtt_of_npm_speaks_through_web_sockets_in_every_version() {
    let doors = "[broker.listener.web]\naddress = \"127.0.0.1:0\"\nwebsocket = true\n\
                 [broker.listener.odd]\naddress = \"127.0.0.1:0\"\nwebsocket = \"/odd/path\"\n";
    let yard = Yard::start(doors).await.unwrap();
    for (door, path) in [("web", "/mqtt"), ("odd", "/odd/path")] {
        let url = format!("ws://127.0.0.1:{}{path}", yard.port(door).await.unwrap());
        for version in VERSIONS {
            mqtt_js(&url, version, None)
                .await
                .unwrap_or_else(|fault| panic!("{version} at {url}: {fault}\n{}", yard.gateway.log()));
        }
    }
    yard.gateway.stop().await.unwrap();
}
