//! Origins: scheme, host and port of a URL.

use std::{fmt, net::SocketAddr, str::FromStr};

/// `http` or `https`, a host and perhaps a port; no path, no trailing slash (RFC 6454 §6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    host: String,
}

impl Origin {
    /// Returns the origin at which a local browser reaches a listener.
    pub fn of_listener(bound: SocketAddr) -> Self {
        let host = match bound.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        Self { text: format!("http://{host}:{}", bound.port()), host }
    }

    /// Returns the text, `https://reef.example.org` for instance.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the host without the port; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Tells whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.ends_with(".localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an origin: expected http:// or https://, a host and perhaps a port, without a path")]
pub struct ParseOriginError;

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        let uri: http::Uri = text.trim_end_matches('/').parse().map_err(|_| ParseOriginError)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(ParseOriginError);
        };
        let is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let has_user = authority.as_str().contains('@');
        let host = authority.host().to_ascii_lowercase();
        if !matches!(scheme, "http" | "https") || !is_plain || has_user || host.is_empty() {
            return Err(ParseOriginError);
        }
        // A browser's Origin header leaves the scheme's own port out.
        let port = authority.port_u16().filter(|port| *port != if scheme == "https" { 443 } else { 80 });
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { text: format!("{scheme}://{host}{port}"), host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_as_browsers_write_it() {
        for (text, wanted) in [
            ("https://Reef.Example.org/", "https://reef.example.org"),
            ("https://reef.example.org:443", "https://reef.example.org"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), wanted);
        }
        for bad in ["", "reef.example.org", "ftp://x", "https://x/app", "https://u@x", "https://x?y"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_loopback() {
        for text in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:80", "http://a.localhost:9"] {
            assert!(text.parse::<Origin>().unwrap().is_loopback(), "{text}");
        }
        assert!(!"http://localhost.example.org".parse::<Origin>().unwrap().is_loopback());
        assert_eq!(Origin::of_listener("0.0.0.0:80".parse().unwrap()).as_str(), "http://localhost:80");
    }
}
