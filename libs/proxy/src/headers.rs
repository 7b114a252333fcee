//! What may pass in a head, each way.
//!
//! Hop-by-hop fields end here (RFC 9110 §7.6.1). Towards the door, so do our credentials and cookies and everything by
//! which a client could claim to be somebody or to come from somewhere; the door may trust what [`crate::Call`] sets.
//! Towards the client, so does everything by which tenant-made content could act on our origin.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LINK, SEC_WEBSOCKET_PROTOCOL,
        UPGRADE, X_CONTENT_TYPE_OPTIONS,
    },
    uri::PathAndQuery,
};

/// The request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who calls.
pub const CALLER: HeaderName = HeaderName::from_static("x-reef-caller");

/// A WebSocket's name.
pub const SOCKET: HeaderName = HeaderName::from_static("x-reef-socket");

/// Subprotocol by which a browser hands us its key; the real one stands beside it.
const BEARER_SUBPROTOCOL: &str = "reef.bearer.";
/// Query parameters by which a browser hands us a ticket, or a link its signature.
const OURS_IN_QUERY: [&str; 2] = ["ticket", "signature"];

/// Filters a request's head on its way to the door.
pub fn to_door(headers: &mut HeaderMap) {
    drop_fields(headers, is_ours_or_forged);
    drop_bearer_subprotocol(headers);
}

/// Filters a response's head on its way to the client, and makes its content inert there.
///
/// Everything is an attachment but the types that a browser shows without running anything: JSON, event streams, text.
pub fn to_client(headers: &mut HeaderMap) {
    drop_fields(headers, acts_on_origin);
    if !headers.get_all(LINK).iter().all(is_of_this_path) {
        headers.remove(LINK);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    let is_attachment = headers.get(CONTENT_DISPOSITION).is_some_and(|value| {
        value.as_bytes().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"attachment"))
    });
    if is_attachment {
        return;
    }
    if headers.get(CONTENT_TYPE).is_some_and(is_inert) {
        headers.remove(CONTENT_DISPOSITION);
    } else if headers.contains_key(CONTENT_TYPE) || headers.contains_key(CONTENT_DISPOSITION) {
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
}

/// Returns the key that a browser hands us among the subprotocols that it offers, and whether it offers another one.
///
/// A browser takes a handshake for failed in which none of its subprotocols is chosen (WHATWG WebSockets, "establish a
/// WebSocket connection"), and a key is never chosen.
pub fn bearer_subprotocol(headers: &HeaderMap) -> Option<(&str, bool)> {
    let key = subprotocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER_SUBPROTOCOL))?;
    Some((key, subprotocols(headers).any(|protocol| !protocol.starts_with(BEARER_SUBPROTOCOL))))
}

/// Returns the subprotocols that a handshake offers.
pub fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Tells whether a head asks for, or agrees to, the WebSocket protocol (RFC 6455 §4).
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket") && has_token(headers, &CONNECTION, "upgrade")
}

pub(crate) fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Returns the path without our credentials in its query.
pub(crate) fn without_credentials(path: &PathAndQuery) -> PathAndQuery {
    let holds_ours = |query: &&str| OURS_IN_QUERY.iter().any(|name| query.contains(name));
    let Some(query) = path.query().filter(holds_ours) else { return path.clone() };
    let is_kept = |pair: &&str| !OURS_IN_QUERY.contains(&pair.split('=').next().unwrap_or_default());
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    let text = match kept.is_empty() {
        true => path.path().to_owned(),
        false => format!("{}?{}", path.path(), kept.join("&")),
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn is_ours_or_forged(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "authorization"
                | "cookie"
                | "expect"
                | "forwarded"
                | "host"
                | "via"
                | "x-api-key"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-url"
                | "x-real-ip"
                | "x-request-id"
                | "x-rewrite-url"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "fly-client-ip"
                | "fastly-client-ip"
                | "remote-user"
        )
        || ["x-forwarded-", "x-reef-", "x-auth-", "x-authenticated-", "x-verified-", "x-remote-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// A redirect (`location`) is among them: a client follows it with its credentials, and with the method at 307, so a door
/// could have it do to other instances what the door itself may not.
fn acts_on_origin(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "alt-svc"
                | "clear-site-data"
                | "content-security-policy"
                | "content-security-policy-report-only"
                | "location"
                | "nel"
                | "origin-agent-cluster"
                | "origin-trial"
                | "permissions-policy"
                | "public-key-pins"
                | "refresh"
                | "report-to"
                | "reporting-endpoints"
                | "server"
                | "service-worker-allowed"
                | "set-cookie"
                | "set-login"
                | "sourcemap"
                | "speculation-rules"
                | "strict-transport-security"
                | "www-authenticate"
                | "x-powered-by"
                | "x-request-id"
        )
        || name.starts_with("access-control-")
        || name.starts_with("x-reef-")
}

/// Tells whether a `Link` leads to another query of the same path only, as that to a list's next page: clients follow
/// it with their credentials.
fn is_of_this_path(link: &HeaderValue) -> bool {
    let bytes = link.as_bytes();
    bytes.starts_with(b"<?") && bytes.iter().filter(|byte| **byte == b'<').count() == 1
}

fn is_inert(content_type: &HeaderValue) -> bool {
    let bytes = content_type.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
    let kind = bytes[..end].trim_ascii();
    [&b"application/json"[..], b"text/event-stream", b"text/plain", b"application/x-ndjson"]
        .iter()
        .any(|inert| kind.eq_ignore_ascii_case(inert))
}

/// Removes the fields that `is_dropped` names and those that `Connection` names.
fn drop_fields(headers: &mut HeaderMap, is_dropped: fn(&str) -> bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let dropped: Vec<HeaderName> =
        headers.keys().filter(|name| is_dropped(name.as_str())).cloned().chain(named).collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn drop_bearer_subprotocol(headers: &mut HeaderMap) {
    let holds_key = |value: &HeaderValue| {
        value.as_bytes().windows(BEARER_SUBPROTOCOL.len()).any(|part| part == BEARER_SUBPROTOCOL.as_bytes())
    };
    if !headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(holds_key) {
        return;
    }
    let kept: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|item| String::from_utf8_lossy(item.trim_ascii()))
        .filter(|item| !item.contains(BEARER_SUBPROTOCOL))
        .map(Cow::into_owned)
        .collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
        && !value.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn text(headers: &HeaderMap, name: &str) -> Option<String> {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_request_loses_credentials_and_claims() {
        let mut headers = map(&[
            ("authorization", "Bearer sk_live_x"),
            ("cookie", "reef_session=x"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-reef-caller", "usr_other"),
            ("connection", "close, X-Custom"),
            ("x-custom", "1"),
            ("accept", "text/event-stream"),
            ("last-event-id", "7"),
        ]);
        to_door(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "last-event-id"]);
    }

    #[test]
    fn the_key_among_the_subprotocols_stays_here() {
        let mut headers = map(&[("sec-websocket-protocol", "reef.bearer.sk_live_x, binary")]);
        to_door(&mut headers);
        assert_eq!(text(&headers, "sec-websocket-protocol").as_deref(), Some("binary"));
        let mut headers = map(&[("sec-websocket-protocol", "reef.bearer.sk_live_x")]);
        to_door(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn the_ticket_in_the_query_stays_here() {
        for (from, to) in [
            ("/a?ticket=x", "/a"),
            ("/a?b=1&ticket=x&c=2", "/a?b=1&c=2"),
            ("/a?tickets=1", "/a?tickets=1"),
            ("/a", "/a"),
        ] {
            assert_eq!(without_credentials(&PathAndQuery::from_static(from)).as_str(), to);
        }
    }

    #[test]
    fn html_is_an_attachment_and_json_is_not() {
        for (kind, given, expected) in [
            ("text/html", None, Some("attachment")),
            ("text/html", Some("inline"), Some("attachment")),
            ("image/svg+xml", Some("Attachment; filename=a.svg"), Some("Attachment; filename=a.svg")),
            ("application/json; charset=utf-8", Some("inline"), None),
            ("text/event-stream", None, None),
        ] {
            let mut headers = map(&[("content-type", kind)]);
            if let Some(given) = given {
                headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(given));
            }
            to_client(&mut headers);
            assert_eq!(text(&headers, "content-disposition").as_deref(), expected, "{kind} {given:?}");
            assert_eq!(text(&headers, "x-content-type-options").as_deref(), Some("nosniff"));
            assert_eq!(text(&headers, "content-security-policy").as_deref(), Some("sandbox"));
        }
    }

    #[test]
    fn a_response_loses_what_acts_on_our_origin() {
        let mut headers = map(&[
            ("set-cookie", "reef_session=evil"),
            ("clear-site-data", "\"*\""),
            ("service-worker-allowed", "/"),
            ("access-control-allow-origin", "*"),
            ("content-security-policy", "default-src *"),
            ("www-authenticate", "Basic"),
            ("location", "/api/instances/inst_other/stop"),
            ("etag", "\"1\""),
        ]);
        to_client(&mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(text(&headers, "etag").as_deref(), Some("\"1\""));
    }

    #[test]
    fn a_link_leads_to_the_next_page_only() {
        for (link, is_kept) in [
            (r#"<?cursor=chs_1&limit=2>; rel="next""#, true),
            (r#"<https://evil.example/>; rel="next""#, false),
            (r#"</api/keys>; rel="next""#, false),
            (r#"<?cursor=1>; rel="prev", <//evil.example>; rel="next""#, false),
        ] {
            let mut headers = map(&[("link", link)]);
            to_client(&mut headers);
            assert_eq!(headers.contains_key(LINK), is_kept, "{link}");
        }
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof![
            prop::sample::select(vec![
                "connection",
                "set-cookie",
                "cookie",
                "authorization",
                "x-forwarded-for",
                "x-reef-caller",
                "access-control-allow-origin",
                "upgrade",
                "sec-websocket-protocol",
                "content-type",
                "content-disposition",
            ])
            .prop_map(str::to_owned),
            "[a-z][a-z0-9-]{0,20}",
        ];
        let value = prop_oneof![
            prop::collection::vec(prop_oneof![Just(9u8), 32u8..127, 128u8..=255], 0..40),
            "[a-z-]{1,12}(, ?[a-z-]{1,12}){0,3}".prop_map(String::into_bytes),
            "reef[.]bearer[.][a-z]{1,9}, binary".prop_map(String::into_bytes),
        ];
        prop::collection::vec((name, value), 0..12).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_bytes(&value).unwrap(),
                );
            }
            headers
        })
    }

    proptest! {
        #[test]
        fn nothing_forbidden_is_left_and_nothing_else_is_touched(before in any_headers()) {
            let named: Vec<String> = before
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
                .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
                .collect();
            for (filter, is_dropped) in [
                (to_door as fn(&mut HeaderMap), is_ours_or_forged as fn(&str) -> bool),
                (to_client, acts_on_origin),
            ] {
                let mut after = before.clone();
                filter(&mut after);
                let set_by_us = [
                    X_CONTENT_TYPE_OPTIONS,
                    CONTENT_SECURITY_POLICY,
                    CONTENT_DISPOSITION,
                    LINK,
                    SEC_WEBSOCKET_PROTOCOL,
                ];
                for name in after.keys().filter(|name| !set_by_us.contains(name)) {
                    prop_assert!(!is_dropped(name.as_str()), "{name}");
                    prop_assert!(!named.contains(&name.to_string()), "{name}");
                }
                for name in before.keys().filter(|name| !set_by_us.contains(name)) {
                    if !is_dropped(name.as_str()) && !named.contains(&name.to_string()) {
                        let values = |map: &HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
                        prop_assert_eq!(values(&before), values(&after));
                    }
                }
                let mut twice = after.clone();
                filter(&mut twice);
                prop_assert_eq!(after, twice);
            }
        }

        #[test]
        fn no_key_reaches_the_door(mut headers in any_headers()) {
            to_door(&mut headers);
            for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
                prop_assert!(!String::from_utf8_lossy(value.as_bytes()).contains(BEARER_SUBPROTOCOL));
            }
        }
    }
}
