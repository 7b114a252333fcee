//! Documents: Markdown of `docs/` and `llms.txt`, with this origin filled in, as text and as pages.
//!
//! To add a guide, put its file into `docs/guides/` and its name into [`GUIDES`].

use pulldown_cmark::{Options, Parser, html};
use reef_door::ErrorCode;

const PLACEHOLDER: &str = "__BASE_URL__";
/// The same origin with the scheme of its WebSockets.
const SOCKET_PLACEHOLDER: &str = "__SOCKET_URL__";

/// A document of the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document(&'static str);

/// `GET /llms.txt`.
pub(crate) const LLMS: Document = Document(include_str!("../../../llms.txt"));
/// `GET /agent.md`.
pub(crate) const AGENT: Document = Document(include_str!("../../../docs/guides/agent.md"));
/// `GET /docs`.
pub(crate) const QUICK_START: Document = Document(include_str!("../../../docs/guides/quick-start.md"));

/// The guides by name, in reading order.
pub(crate) const GUIDES: &[(&str, Document)] = &[
    ("quick-start", QUICK_START),
    ("keys", Document(include_str!("../../../docs/guides/keys.md"))),
    ("account", Document(include_str!("../../../docs/guides/account.md"))),
    ("instances", Document(include_str!("../../../docs/guides/instances.md"))),
    ("chat", Document(include_str!("../../../docs/guides/chat.md"))),
    ("files", Document(include_str!("../../../docs/guides/files.md"))),
    ("terminal", Document(include_str!("../../../docs/guides/terminal.md"))),
    ("desktop", Document(include_str!("../../../docs/guides/desktop.md"))),
    ("sockets", Document(include_str!("../../../docs/guides/sockets.md"))),
    ("errors", Document(include_str!("../../../docs/guides/errors.md"))),
    ("agent", AGENT),
];

impl Document {
    /// Returns the text with the origin filled in.
    pub(crate) fn text(self, origin: &str) -> String {
        // `http` becomes `ws`, `https` `wss`.
        let sockets = origin.replacen("http", "ws", 1);
        self.0.replace(PLACEHOLDER, origin).replace(SOCKET_PLACEHOLDER, &sockets)
    }

    /// Returns the first heading.
    pub(crate) fn title(self) -> &'static str {
        self.0.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// Returns the text as HTML, without a page around it.
    pub(crate) fn html(self, origin: &str) -> String {
        markdown(&self.text(origin))
    }
}

/// Returns Markdown of ours as HTML; what a tenant wrote never comes here.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, Parser::new_ext(text, Options::ENABLE_TABLES));
    // It may scroll sideways, so the keyboard must reach it.
    out.replace("<pre>", "<pre tabindex=\"0\">")
}

/// Returns the page of an error code.
pub(crate) fn error_page(code: ErrorCode) -> Document {
    macro_rules! page {
        ($name:literal) => {
            Document(include_str!(concat!("../../../docs/errors/", $name, ".md")))
        };
    }
    match code {
        ErrorCode::Unauthorized => page!("UNAUTHORIZED"),
        ErrorCode::Forbidden => page!("FORBIDDEN"),
        ErrorCode::PaymentRequired => page!("PAYMENT_REQUIRED"),
        ErrorCode::NotFound => page!("NOT_FOUND"),
        ErrorCode::MethodNotAllowed => page!("METHOD_NOT_ALLOWED"),
        ErrorCode::Conflict => page!("CONFLICT"),
        ErrorCode::InstanceNotReady => page!("INSTANCE_NOT_READY"),
        ErrorCode::PayloadTooLarge => page!("PAYLOAD_TOO_LARGE"),
        ErrorCode::InvalidRequest => page!("INVALID_REQUEST"),
        ErrorCode::RateLimited => page!("RATE_LIMITED"),
        ErrorCode::QuotaExceeded => page!("QUOTA_EXCEEDED"),
        ErrorCode::UpstreamError => page!("UPSTREAM_ERROR"),
        ErrorCode::Capacity => page!("CAPACITY"),
        ErrorCode::UpstreamTimeout => page!("UPSTREAM_TIMEOUT"),
        ErrorCode::InternalError => page!("INTERNAL_ERROR"),
    }
}

/// Returns every document in one text: `llms.txt`, the guides, the error pages.
pub(crate) fn full(origin: &str) -> String {
    let guides = GUIDES.iter().map(|(_, document)| *document);
    let errors = ErrorCode::ALL.iter().map(|code| error_page(*code));
    std::iter::once(LLMS)
        .chain(guides)
        .chain(errors)
        .map(|document| document.text(origin))
        .collect::<Vec<_>>()
        .join("\n---\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_begins_with_its_title_and_has_its_origin() {
        let errors = ErrorCode::ALL.iter().map(|code| (code.as_str(), error_page(*code)));
        for (name, document) in GUIDES.iter().copied().chain([("llms", LLMS)]).chain(errors) {
            assert!(document.0.starts_with("# "), "{name}");
            let text = document.text("https://reef.example");
            assert!(!text.contains(PLACEHOLDER) && !text.contains(SOCKET_PLACEHOLDER), "{name}");
            let samples = text.split("```").skip(1).step_by(2);
            for address in samples.flat_map(|sample| sample.split("://").skip(1)) {
                let host = address.split(['/', '"']).next();
                assert_eq!(host, Some("reef.example"), "{name} has the sample ://{address}");
            }
        }
        for code in ErrorCode::ALL {
            assert_eq!(error_page(*code).title(), code.as_str());
        }
        assert!(full("https://reef.example").contains("https://reef.example/openapi.json"));
    }

    #[test]
    fn renders_tables_and_code() {
        let html = GUIDES[1].1.html("https://reef.example");
        assert!(html.contains("<table>") && html.contains("<pre tabindex=\"0\"><code"), "{html}");
    }
}
