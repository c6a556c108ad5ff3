//! HTTP CONNECT through a proxy (RFC 9110, 9.3.6), with Basic login (RFC 7617).
//!
//! Own code because the proxy of rumqttc reports neither the status nor the stage, and cannot be watched.

use gateway_core::settings::ProxySettings;
use gateway_core::uplink::loss::Loss;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer head of a proxy, bytes; proxies send some hundred.
const HEAD_BYTES_MAX: usize = 8192;

/// Asks the proxy for a tunnel to `host:port`. Reads exactly the head of the answer, so that every byte after it belongs to the tunnel.
pub(super) async fn connect(
    stream: &mut TcpStream,
    proxy: &ProxySettings,
    host: &str,
    port: u16,
) -> Result<(), Loss> {
    let broken = |e: std::io::Error| Loss::Proxy { detail: e.to_string().into() };
    stream.write_all(request(proxy, host, port).as_bytes()).await.map_err(broken)?;
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(Loss::Proxy { detail: "its answer has no end: it is no HTTP proxy".into() });
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(match status(&head) {
                    Some(status) if !(200..300).contains(&status) => Loss::ProxyRefused { status },
                    _ => Loss::Proxy { detail: "it closed the connection instead of answering".into() },
                });
            }
            Err(e) => return Err(broken(e)),
        }
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(Loss::ProxyRefused { status }),
        None => Err(Loss::Proxy { detail: "its answer is not HTTP".into() }),
    }
}

fn request(proxy: &ProxySettings, host: &str, port: u16) -> String {
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = proxy.login.as_ref().map_or_else(String::new, |(user, password)| {
        format!(
            "Proxy-Authorization: Basic {}\r\n",
            base64(format!("{user}:{}", password.reveal()).as_bytes())
        )
    });
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n")
}

/// The status of `HTTP/1.x nnn ...`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

/// Base64 with padding (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use gateway_core::settings::Secret;

    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }

    #[test]
    fn the_request_names_the_target_twice_and_carries_the_login() {
        let login = Some(("Aladdin".to_owned(), Secret::new("open sesame")));
        let proxy = ProxySettings { host: "p".into(), port: 3128, login };
        assert_eq!(
            request(&proxy, "2001:db8::1", 8883),
            "CONNECT [2001:db8::1]:8883 HTTP/1.1\r\nHost: [2001:db8::1]:8883\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn the_status_is_read_from_real_heads_and_nothing_else() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407\r\n", Some(407)),
            ("HTTP/1.1 99 x\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
            ("HTTP/1.1", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head:?}");
        }
    }
}
