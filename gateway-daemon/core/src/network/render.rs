//! The files below /run that make the network what the settings say.

use std::fmt::Write as _;

use super::settings::{Addressing, Settings, Wifi};

/// What stands above every file.
const HEAD: &str = "# Made by `gateway-daemon provision` at every start from [network] of gateway.toml: changes here are lost.\n";

/// Routes of the wired network are taken before those of the radio.
const WIRED_METRIC: u32 = 100;
const WIFI_METRIC: u32 = 600;

/// The card that a Raspberry Pi's radio has; wpa_supplicant is started for this one.
const WIFI_CARD: &str = "wlan0";

/// A file: its path below /run, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Where it belongs, relative to /run.
    pub path: &'static str,
    /// What stands in it; `None` when there must be no such file.
    pub text: Option<String>,
    /// Whether only root may read it.
    pub secret: bool,
}

/// Bytes of the key of a radio network.
pub const WIFI_KEY_BYTES: usize = 32;

/// Every file, also those that must not be there, so that nothing of a former configuration stays. `derive` makes the key of a radio network of
/// its password and its name (IEEE 802.11-2020, J.4.1: PBKDF2 with HMAC-SHA1, 4096 rounds): wpa_supplicant cannot be given every password
/// (`"` and `#` in one line end it), and this way it is not in the file at all.
#[must_use]
pub fn rendered(settings: &Settings, derive: impl Fn(&str, &str) -> [u8; WIFI_KEY_BYTES]) -> [Rendered; 4] {
    let open = |path, text| Rendered { path, text, secret: false };
    let wifi = settings.wifi.as_ref();
    [
        open("systemd/network/10-tidegate-ethernet.network", Some(ethernet(settings))),
        open("systemd/network/10-tidegate-wifi.network", wifi.map(|wifi| wifi_network(settings, wifi))),
        Rendered {
            path: "wpa_supplicant/wpa_supplicant-wlan0.conf",
            text: wifi.map(|wifi| supplicant(wifi, &derive(wifi.password.reveal(), wifi.ssid.as_str()))),
            secret: true,
        },
        open("systemd/timesyncd.conf.d/10-tidegate.conf", time_servers(settings)),
    ]
}

fn ethernet(settings: &Settings) -> String {
    let mut out = format!("{HEAD}[Match]\n");
    // Cables, not the bridges and tunnels that programs make.
    out.push_str("Type=ether\nKind=!*\n");
    if let Some(card) = &settings.ethernet.card {
        let _ = writeln!(out, "Name={}", card.as_str());
    }
    network(&mut out, settings, &settings.ethernet.addressing, WIRED_METRIC);
    out
}

fn wifi_network(settings: &Settings, wifi: &Wifi) -> String {
    let mut out = format!("{HEAD}[Match]\nName={WIFI_CARD}\n");
    network(&mut out, settings, &wifi.addressing, WIFI_METRIC);
    out
}

/// The sections below `[Match]`.
fn network(out: &mut String, settings: &Settings, addressing: &Addressing, metric: u32) {
    // LLMNR and mDNS would be open ports. A cable that was pulled for a moment does not cost the address.
    out.push_str("\n[Network]\nLLMNR=no\nMulticastDNS=no\nLLDP=no\nEmitLLDP=no\nIgnoreCarrierLoss=10s\n");
    match addressing {
        Addressing::Automatic { dns } => {
            out.push_str("DHCP=yes\n");
            for server in dns {
                let _ = writeln!(out, "DNS={server}");
            }
            automatic(out, settings, !dns.is_empty(), metric);
        }
        Addressing::Fixed { address, prefix, gateway, dns } => {
            // What is written down is everything: nobody on the network adds an address, a route or a name server.
            out.push_str("DHCP=no\nIPv6AcceptRA=no\n");
            let _ = writeln!(out, "Address={address}/{prefix}");
            for server in dns {
                let _ = writeln!(out, "DNS={server}");
            }
            if let Some(gateway) = gateway {
                let _ = writeln!(out, "\n[Route]\nGateway={gateway}\nMetric={metric}");
            }
        }
    }
}

/// What is taken from the network and what is not.
fn automatic(out: &mut String, settings: &Settings, own_dns: bool, metric: u32) {
    let dns = if own_dns { "UseDNS=no\n" } else { "" };
    let time = if settings.ntp.is_empty() { "" } else { "UseNTP=no\n" };
    let name = match settings.announced {
        true => format!("SendHostname=yes\nHostname={}\n", settings.hostname.as_str()),
        false => "SendHostname=no\n".to_owned(),
    };
    // The same address after each start: the machine id, of which systemd would make the identifiers, is drawn anew by a read-only root.
    let _ = write!(
        out,
        "\n[DHCPv4]\nClientIdentifier=mac\n{name}UseHostname=no\n{dns}{time}RouteMetric={metric}\n"
    );
    let _ = write!(out, "\n[DHCPv6]\nDUIDType=link-layer\nUseHostname=no\n{dns}{time}");
    let _ = write!(out, "\n[IPv6AcceptRA]\n{dns}RouteMetric={metric}\n");
}

fn supplicant(wifi: &Wifi, key: &[u8]) -> String {
    let mut out = format!("{HEAD}ctrl_interface=DIR=/run/wpa_supplicant\nupdate_config=0\n");
    let _ = write!(out, "country={}\n\nnetwork={{\n    ssid=", wifi.country);
    hex(&mut out, wifi.ssid.as_str().as_bytes());
    if wifi.hidden {
        out.push_str("\n    scan_ssid=1");
    }
    out.push_str("\n    key_mgmt=WPA-PSK\n    psk=");
    hex(&mut out, key);
    out.push_str("\n}\n");
    out
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

fn time_servers(settings: &Settings) -> Option<String> {
    let names: Vec<_> = settings.ntp.iter().map(super::settings::Server::as_str).collect();
    (!names.is_empty()).then(|| format!("{HEAD}[Time]\nNTP={}\n", names.join(" ")))
}
