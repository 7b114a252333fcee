//! The browser app, embedded as `infra/setup/web.sh` built it; a build without it serves a page that says so.

use reef_api::WebApp;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Built;

/// Returns the files of the build.
pub(crate) fn built() -> WebApp {
    WebApp::new(Built::iter().filter_map(|path| Some((path.clone(), Built::get(&path)?.data))))
}
