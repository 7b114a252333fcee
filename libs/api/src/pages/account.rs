//! `/account`: instances, keys, invite codes and sessions of who is signed in.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{Markup, html};
use reef_auth::Credential;
use reef_control::{
    account::NewKey,
    instance::{CreateInstance, Verb},
};
use reef_db::{ApiKeyRow, EntitlementRow, InstanceRow, Page, SessionRow};
use reef_model::{ApiKeyId, InstanceId, SessionId, Status};
use serde::Deserialize;

use super::{Form, Visitor, filled, page, when};
use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Caller, Person},
    extract::Path,
    limits::{Policy, Subject},
};

/// Rows of each list on the page; the API has the rest.
const SHOWN: i64 = 100;

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/account", get(show))
        .route("/account/instances", post(create_instance))
        .route("/account/instances/{id}/{verb}", post(command))
        .route("/account/keys", post(mint_key))
        .route("/account/keys/{id}/revoke", post(revoke_key))
        .route("/account/invites", post(redeem))
        .route("/account/sessions/{id}/end", post(end_session))
}

/// What the page says at its top.
enum Notice {
    None,
    /// A key was made: the only time that its secret is shown.
    Minted {
        name: String,
        secret: String,
    },
    Done(&'static str),
    Failed(ApiError),
}

async fn show(caller: Caller<Person>, State(state): State<ApiState>) -> ApiResult<Response> {
    render(&state, &caller, Notice::None).await
}

#[derive(Deserialize)]
struct NewInstanceForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    invite_code: String,
}

async fn create_instance(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    Form(form): Form<NewInstanceForm>,
) -> ApiResult<Response> {
    let wish = CreateInstance {
        name: filled(form.name),
        invite_code: filled(form.invite_code),
        ..Default::default()
    };
    let attempt = async {
        state.limits().check(Policy::InstanceCreate, &Subject::Account(caller.tenant().to_string()))?;
        Ok(state.control().create_instance(&caller.actor(), wish).await.map(drop)?)
    };
    answer(&state, &caller, attempt.await).await
}

async fn command(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    ids: Path<(InstanceId, String)>,
) -> ApiResult<Response> {
    let (id, verb) = ids.0;
    let verb = match verb.as_str() {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" => Verb::Restart,
        "delete" => Verb::Delete,
        _ => return Err(crate::error::no_such_path().await),
    };
    let outcome = state.control().command(&caller.actor(), id, verb).await;
    answer(&state, &caller, outcome.map(drop).map_err(ApiError::from)).await
}

#[derive(Deserialize)]
struct NewKeyForm {
    name: String,
}

async fn mint_key(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    Form(form): Form<NewKeyForm>,
) -> ApiResult<Response> {
    let wish = NewKey { name: form.name, scopes: None, instance_ids: None, ip_allow: None, expires_at: None };
    let may_give = caller.identity().may_give();
    let notice = match state.control().accounts().mint_key(&caller.actor(), may_give, wish).await {
        Ok((row, secret)) => Notice::Minted { name: row.name, secret: secret.expose().to_owned() },
        Err(error) => Notice::Failed(error.into()),
    };
    render(&state, &caller, notice).await
}

async fn revoke_key(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    id: Path<ApiKeyId>,
) -> ApiResult<Response> {
    let outcome = state.control().accounts().revoke_key(&caller.actor(), id.0).await;
    answer(&state, &caller, outcome.map_err(ApiError::from)).await
}

#[derive(Deserialize)]
struct RedeemForm {
    code: String,
}

async fn redeem(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    Form(form): Form<RedeemForm>,
) -> ApiResult<Response> {
    let attempt = async {
        state.limits().check(Policy::SignIn, &Subject::Account(caller.tenant().to_string()))?;
        Ok::<_, ApiError>(state.control().accounts().redeem_invite(&caller.actor(), &form.code).await?)
    };
    let notice = match attempt.await {
        Ok(_) => Notice::Done("The code is redeemed: you can create one instance more."),
        Err(error) => Notice::Failed(error),
    };
    render(&state, &caller, notice).await
}

async fn end_session(
    caller: Caller<Person>,
    State(state): State<ApiState>,
    id: Path<SessionId>,
) -> ApiResult<Response> {
    let outcome = state.control().accounts().end_session(&caller.actor(), id.0).await;
    answer(&state, &caller, outcome.map_err(ApiError::from)).await
}

/// Shows the page anew after a change, so that a reload repeats nothing; says why where there was none.
async fn answer(state: &ApiState, caller: &Caller<Person>, outcome: ApiResult<()>) -> ApiResult<Response> {
    match outcome {
        Ok(()) => Ok(Redirect::to("/account").into_response()),
        Err(error) => render(state, caller, Notice::Failed(error)).await,
    }
}

async fn render(state: &ApiState, caller: &Caller<Person>, notice: Notice) -> ApiResult<Response> {
    let (db, tenant, now) = (state.control().db(), caller.tenant(), state.control().now());
    let user =
        db.lookup_user(tenant).await?.ok_or_else(|| ApiError::unauthorized("This account is gone."))?;
    let instances = db.list_instances(tenant, Page::first(SHOWN)).await?;
    let keys = db.list_api_keys(tenant, Page::first(SHOWN)).await?;
    let entitlements = db.list_entitlements(tenant, Page::first(SHOWN)).await?;
    let sessions = db.list_sessions(tenant, now, Page::first(SHOWN)).await?;
    let current = match caller.identity().principal.credential {
        Credential::Session(id) => Some(id),
        Credential::Key(_) => None,
    };
    let free = entitlements
        .iter()
        .filter(|right| right.instance_id.is_none() && right.expires_at.is_none_or(|end| end > now))
        .count();
    let body = html! {
        h1 { "Your account" }
        p.soft { (user.email) }
        (say(&notice))
        (instances_part(state, &instances, free))
        (keys_part(&keys))
        (invites_part(&entitlements, free))
        (sessions_part(&sessions, current))
    };
    let mut response = page("Account", Visitor::SignedIn, body);
    if let Notice::Failed(error) = &notice {
        *response.status_mut() = error.status();
    }
    Ok(response)
}

fn say(notice: &Notice) -> Markup {
    html! {
        @match notice {
            Notice::None => {}
            Notice::Minted { name, secret } => {
                div.card.notice role="status" {
                    strong { "Your new key “" (name) "”" }
                    output { (secret) }
                    "Keep it now: it is not shown again."
                }
            }
            Notice::Done(text) => { div.card.notice role="status" { (text) } }
            Notice::Failed(error) => { div.card.notice.bad role="alert" { (error.message()) } }
        }
    }
}

fn instances_part(state: &ApiState, rows: &[InstanceRow], free: usize) -> Markup {
    html! {
        h2 id="instances" { "Instances" }
        @if rows.is_empty() { p.soft { "None yet." } }
        @for row in rows {
            div.card {
                strong { (row.name) } " "
                span.badge.ready[row.status == Status::Ready].error[row.status == Status::Error] { (row.status) }
                @if let Some(reason) = &row.status_reason { p.soft { (reason) } }
                p { code { (row.id) } }
                @if row.status == Status::Ready {
                    pre { code {
                        "curl -N -X POST " (state.origin()) "/api/instances/" (row.id) "/chat/stream \\\n"
                        "  -H \"Authorization: Bearer YOUR_API_KEY\" -H \"Content-Type: application/json\" \\\n"
                        "  -d '{\"message\":\"Hello\"}'"
                    } }
                }
                div.row {
                    @for verb in verbs(row.status) {
                        form method="post" action={ "/account/instances/" (row.id) "/" (verb) } {
                            button.quiet.danger[*verb == "delete"] type="submit" { (verb) }
                        }
                    }
                }
            }
        }
        form.card method="post" action="/account/instances" {
            div.row {
                label { "Name" small { "May be left empty." } input name="name" maxlength="64" autocomplete="off"; }
                @if free == 0 {
                    label { "Invite code" small { "Needed: none of yours is free." } input name="invite_code" autocomplete="off" required; }
                }
                button type="submit" { "Create instance" }
            }
        }
    }
}

fn verbs(status: Status) -> &'static [&'static str] {
    match status {
        Status::Stopped => &["start", "delete"],
        Status::Ready | Status::Starting | Status::Provisioning | Status::Updating => {
            &["stop", "restart", "delete"]
        }
        Status::Error => &["restart", "stop", "delete"],
        Status::Stopping => &["delete"],
        Status::Deleting | Status::Deleted => &[],
    }
}

fn keys_part(rows: &[ApiKeyRow]) -> Markup {
    html! {
        h2 id="keys" { "API keys" }
        form.card method="post" action="/account/keys" {
            div.row {
                label { "Name" input name="name" maxlength="100" autocomplete="off" required; }
                button type="submit" { "Create key" }
            }
        }
        @if !rows.is_empty() {
            div.wide { table {
                thead { tr { th { "Name" } th { "Key" } th { "Last used" } th { "Ends" } th {} } }
                tbody { @for row in rows {
                    tr {
                        td { (row.name) }
                        td { code { (row.prefix) "…" (row.last4) } }
                        td { @match row.last_used_at { Some(at) => (when(at)), None => "never" } }
                        td { @match row.expires_at { Some(at) => (when(at)), None => "never" } }
                        td { form method="post" action={ "/account/keys/" (row.id) "/revoke" } {
                            button.quiet.danger type="submit" aria-label={ "Revoke " (row.name) } { "revoke" }
                        } }
                    }
                } }
            } }
        }
    }
}

fn invites_part(rows: &[EntitlementRow], free: usize) -> Markup {
    html! {
        h2 id="invites" { "Invite codes" }
        p { "You may hold " (rows.len()) " instance" @if rows.len() != 1 { "s" } "; " (free) " of these free." }
        form.card method="post" action="/account/invites" {
            div.row {
                label { "Code" input name="code" autocomplete="off" required; }
                button type="submit" { "Redeem" }
            }
        }
    }
}

fn sessions_part(rows: &[SessionRow], current: Option<SessionId>) -> Markup {
    html! {
        h2 id="sessions" { "Sessions" }
        div.wide { table {
            thead { tr { th { "Browser" } th { "Address" } th { "Last used" } th {} } }
            tbody { @for row in rows {
                tr {
                    td.soft { (row.user_agent.as_deref().unwrap_or("unknown")) }
                    td { (row.ip.as_deref().unwrap_or("")) }
                    td { (when(row.last_seen_at)) }
                    td {
                        @if Some(row.id) == current { span.soft { "this one" } } @else {
                            form method="post" action={ "/account/sessions/" (row.id) "/end" } {
                                button.quiet.danger type="submit" { "end" }
                            }
                        }
                    }
                }
            } }
        } }
    }
}
