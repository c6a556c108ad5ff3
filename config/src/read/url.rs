//! Addresses of brokers and proxies. A password in one is refused without being repeated.

use gateway_core::settings::Transport;

/// Parts of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address<'u> {
    pub(crate) scheme: &'u str,
    pub(crate) user: Option<&'u str>,
    pub(crate) host: &'u str,
    pub(crate) port: Option<u16>,
    /// With its '/', empty without.
    pub(crate) path: &'u str,
}

/// Splits `SCHEME://[USER@]HOST[:PORT][/PATH]`.
///
/// # Errors
/// A sentence without the text itself, which may hold a password.
pub(crate) fn split<'u>(key: &str, secret_key: &str, text: &'u str) -> Result<Address<'u>, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|u| u.contains(':')) || user.is_none() && path.contains('@') {
        return Err(format!(
            "`{key}` holds a password, which does not stand in this file: write it into a file of its own and name that with `{secret_key}`"
        ));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6
                .split_once(']')
                .ok_or_else(|| format!("`{key}` has '[' without ']', expected [IPv6 address]"))?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                return Err(format!(
                    "`{key}` has a wrong port, expected a number from 1 to 65535 after the last ':'"
                ));
            }
        },
    };
    if !host_is_good(host) {
        return Err(format!(
            "`{key}` has no usable host name, expected letters, digits, '.' and '-', or an address: correct what stands between :// and the port"
        ));
    }
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) || path.contains('?') {
        return Err(format!("`{key}` has a space or '?' in its path, expected a plain path such as /mqtt"));
    }
    Ok(Address { scheme, user, host, port, path })
}

/// Whether a text can be a host name or an address.
pub(crate) fn host_is_good(host: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_numbers = host.split('.').all(digits);
    !host.is_empty()
        && host.len() <= 253
        && host.chars().all(good)
        && !host.starts_with(['.', '-'])
        && (!is_numbers || host.parse::<std::net::Ipv4Addr>().is_ok())
}

/// The transport of a scheme and its usual port.
pub(crate) fn transport(scheme: &str) -> Option<(Transport, u16)> {
    match scheme {
        "mqtt" => Some((Transport::Tcp, 1883)),
        "mqtts" => Some((Transport::Tls, 8883)),
        "ws" => Some((Transport::WebSocket, 80)),
        "wss" => Some((Transport::WebSocketTls, 443)),
        _ => None,
    }
}

/// The scheme that another product's was probably meant to be.
pub(crate) fn usual_scheme(scheme: &str) -> Option<&'static str> {
    match scheme.to_lowercase().as_str() {
        "tcp" | "mqtt" | "mqtt-tcp" => Some("mqtt"),
        "ssl" | "tls" | "mqtts" | "mqtt+ssl" | "tcps" => Some("mqtts"),
        "http" | "ws" => Some("ws"),
        "https" | "wss" => Some("wss"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        let address = split("url", "password_file", "wss://me@h.example:8443/a/b").unwrap();
        assert_eq!(
            address,
            Address { scheme: "wss", user: Some("me"), host: "h.example", port: Some(8443), path: "/a/b" }
        );
        assert_eq!(split("url", "", "mqtt://[fe80::1]:1883").unwrap().host, "fe80::1");
        assert_eq!(split("url", "", "h").unwrap().scheme, "");
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in ["mqtt://me:hunter2@h", "mqtt://me:hunt/er2@h", "me:hunter2@h:1883"] {
            let error = split("url", "password_file", text).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hunt"), "{error}");
        }
    }
}
