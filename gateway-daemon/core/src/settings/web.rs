//! Origins and hosts of HTTP requests in one form, so that the file's and the browser's can be compared byte by byte ("RFC 6454", 6.1; "RFC 9110", 7.2).

/// Longest that is looked at.
const BYTES_MAX: usize = 300;

/// An origin such as `https://panel.example` or `null`: in lower case, without the port that its scheme has anyway. `None` is none.
#[must_use]
pub fn origin(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let (scheme, place) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        word if !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
        {
            None
        }
        _ => return None,
    };
    Some(format!("{scheme}://{}", authority(place, port)?))
}

/// A host as the `Host` of a request has it: in lower case, without the usual port of the listener's scheme.
#[must_use]
pub fn host(text: &str, tls: bool) -> Option<String> {
    authority(text, Some(if tls { 443 } else { 80 }))
}

fn authority(text: &str, usual: Option<u16>) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if text.is_empty() || text.len() > BYTES_MAX || !text.bytes().all(good) {
        return None;
    }
    // The colons of an IPv6 address stand in brackets.
    let name_end = text.rfind(']').map_or(0, |at| at + 1);
    let (name, port) = match text[name_end..].find(':') {
        None => (text.as_str(), None),
        Some(at) => (&text[..name_end + at], Some(text[name_end + at + 1..].parse::<u16>().ok()?)),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let bracketed = name.starts_with('[') && name.ends_with(']');
    if name.is_empty() || (!bracketed && name.contains(['[', ']', ':'])) {
        return None;
    }
    Some(match port {
        Some(port) if Some(port) != usual => format!("{name}:{port}"),
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_origin_has_one_form() {
        for text in ["https://Panel.Example", "HTTPS://panel.example:443", "https://panel.example."] {
            assert_eq!(origin(text).as_deref(), Some("https://panel.example"), "{text}");
        }
        assert_eq!(origin("http://panel.example:443").as_deref(), Some("http://panel.example:443"));
        assert_eq!(origin("http://[FE80::1]:8080").as_deref(), Some("http://[fe80::1]:8080"));
        assert_eq!(origin("null").as_deref(), Some("null"));
        assert_eq!(origin("app://panel:80").as_deref(), Some("app://panel:80"));
    }

    #[test]
    fn what_is_no_origin_is_like_none_of_the_list() {
        for text in [
            "",
            "panel.example",
            "https://",
            "https:///x",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://a b",
            "https://a:x",
            "https://a:",
            "https://a:70000",
            "https://a::1",
            "https://[::1",
            "://a",
            "Null",
            "https://a, https://b",
        ] {
            assert_eq!(origin(text), None, "{text:?}");
        }
        assert_eq!(origin(&format!("https://{}", "a".repeat(400))), None);
    }

    #[test]
    fn a_host_is_compared_without_the_port_that_is_usual_for_it() {
        assert_eq!(host("Gateway.local:443", true).as_deref(), Some("gateway.local"));
        assert_eq!(host("gateway.local:443", false).as_deref(), Some("gateway.local:443"));
        assert_eq!(host("192.168.1.20:8443", true).as_deref(), Some("192.168.1.20:8443"));
        assert_eq!(host("[::1]", false).as_deref(), Some("[::1]"));
        assert_eq!(host("evil.example/x", false), None);
    }
}
