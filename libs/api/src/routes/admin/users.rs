//! `/api/admin/users`: every account, and who of them may act.

use axum::{extract::State, response::Response};
use reef_control::account::StandingChange;
use reef_model::{Role, UserId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiResult, ApiState,
    caller::{Caller, Operator},
    extract::{Json, PageQuery, Path, Query},
    views::{ListedUser, UserStanding},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(patch))
}

/// Which accounts.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsersQuery {
    /// Only those whose address contains this, in whatever case.
    #[serde(default)]
    email: String,
}

impl UsersQuery {
    /// Returns the pattern that the addresses must be like; nothing of the text has a meaning of its own.
    fn pattern(&self) -> String {
        let mut pattern = String::from("%");
        for letter in self.email.trim().to_lowercase().chars() {
            match letter {
                '%' | '_' | '\\' => pattern.extend(['\\', letter]),
                // PostgreSQL takes no NUL in text; no address has any.
                '\0' => pattern.push('\u{fffd}'),
                _ => pattern.push(letter),
            }
        }
        pattern.push('%');
        pattern
    }
}

/// Lists the accounts, newest first.
#[utoipa::path(
    get, path = "/api/admin/users", operation_id = "listUsers", tag = "Operator",
    params(UsersQuery, PageQuery),
    responses((status = 200, description = "One page.", body = Vec<ListedUser>)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn list(
    _caller: Caller<Operator>,
    State(state): State<ApiState>,
    Query(wanted): Query<UsersQuery>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Response> {
    let rows = state.control().db().list_users_any(&wanted.pattern(), page.page()?).await?;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("email", &wanted.email).finish();
    let path = format!("/api/admin/users?{query}");
    Ok(page.answer(&path, rows, |row| row.user.id.as_uuid(), |_| true, ListedUser::from))
}

/// What an operator may change of an account; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchUserBody {
    /// Makes it an operator's, or an ordinary one.
    #[serde(default)]
    role: Option<Role>,
    /// Locks it: its sessions end at once, and its keys are of no use until it is opened again. Its instances stay as they
    /// are.
    #[serde(default)]
    is_locked: Option<bool>,
}

/// Changes an account's role, or locks it; the last operator who can act stays one.
#[utoipa::path(
    patch, path = "/api/admin/users/{id}", operation_id = "updateUser", tag = "Operator",
    params(("id" = UserId, Path)),
    request_body(content = PatchUserBody, example = json!({"is_locked": true})),
    responses((status = 200, description = "The account as it is now.", body = UserStanding)),
    extensions(("x-reef-scope" = json!("account")), ("x-reef-operator" = json!(true)), ("x-reef-wakes" = json!(false))),
)]
async fn patch(
    caller: Caller<Operator>,
    State(state): State<ApiState>,
    Path(id): Path<UserId>,
    Json(body): Json<PatchUserBody>,
) -> ApiResult<Json<UserStanding>> {
    let change = StandingChange { role: body.role, is_locked: body.is_locked };
    let user = state.control().accounts().change_standing(&caller.actor(), id, change).await?;
    Ok(Json(user.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_search_has_a_meaning_of_its_own() {
        let pattern = |email: &str| UsersQuery { email: email.into() }.pattern();
        assert_eq!(pattern(""), "%%");
        assert_eq!(pattern(" Ada_1%\\\0 "), "%ada\\_1\\%\\\\\u{fffd}%");
    }
}
