//! Describing, making, moving, copying and deleting.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use reef_door::files::{ChangeMode, CopyReport, Entry, FromTo, MakeDirectory};

use super::{Files, conditions::condition, failure::nonsense, path_of, upload::written};
use crate::{
    door::problem::{Body, Params, Problem},
    wire::files::{Call, Reply},
};

/// Describes what is at a path.
pub(super) async fn stat(State(files): State<Files>, params: Params) -> Result<Json<Entry>, Problem> {
    let call = Call::Stat { path: path_of(&params)?, follow: params.switch("follow")? };
    entry(files.ask(call).await?.0)
}

/// Makes a directory.
pub(super) async fn mkdir(
    State(files): State<Files>,
    Body { value, .. }: Body<MakeDirectory>,
) -> Result<Response, Problem> {
    match files.ask(Call::MakeDirectory { path: value.path }).await?.0 {
        Reply::Written(entry, is_new) => Ok(written(*entry, is_new)),
        _ => Err(nonsense()),
    }
}

/// Gives something another path.
pub(super) async fn rename(
    State(files): State<Files>,
    Body { value: FromTo { from, to, overwrite }, .. }: Body<FromTo>,
) -> Result<Json<Entry>, Problem> {
    entry(files.ask(Call::Move { from, to, overwrite }).await?.0)
}

/// Copies a file, link or tree.
pub(super) async fn copy(
    State(files): State<Files>,
    Body { value: FromTo { from, to, overwrite }, .. }: Body<FromTo>,
) -> Result<(StatusCode, Json<CopyReport>), Problem> {
    match files.ask(Call::Copy { from, to, overwrite }).await?.0 {
        Reply::Copied(report) => Ok((StatusCode::CREATED, Json(*report))),
        _ => Err(nonsense()),
    }
}

/// Sets permission bits.
pub(super) async fn chmod(
    State(files): State<Files>,
    Body { value, .. }: Body<ChangeMode>,
) -> Result<Json<Entry>, Problem> {
    let call = Call::Chmod { path: value.path, mode: mode_of(&value.mode)? };
    entry(files.ask(call).await?.0)
}

/// Deletes a file, link or directory.
pub(super) async fn delete(
    State(files): State<Files>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let call = Call::Delete {
        path: path_of(&params)?,
        recursive: params.switch("recursive")?,
        condition: condition(&headers),
    };
    match files.ask(call).await?.0 {
        Reply::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(nonsense()),
    }
}

/// Reads permission bits.
pub(super) fn mode_of(text: &str) -> Result<u32, Problem> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| Problem::field("mode", "must be octal digits from 0000 to 0777"))
}

fn entry(reply: Reply) -> Result<Json<Entry>, Problem> {
    match reply {
        Reply::Entry(entry) => Ok(Json(*entry)),
        _ => Err(nonsense()),
    }
}
