//! `/sign-in`, `/sign-up`, `/sign-out`.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderMap, header};
use maud::{Markup, html};
use reef_control::account::SignUp;
use secrecy::SecretString;
use serde::Deserialize;
use tower_sessions::Session;

use super::{Form, Visitor, filled, page};
use crate::{
    ApiError, ApiResult, ApiState, session,
    sign_in::{SignInClient, throttle_account},
};

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/sign-in", get(sign_in_form).post(sign_in))
        .route("/sign-up", get(sign_up_form).post(sign_up))
        .route("/sign-out", post(sign_out))
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: SecretString,
    #[serde(default)]
    name: String,
    #[serde(default)]
    invite_code: String,
}

async fn sign_in_form() -> Response {
    sign_in_page("", None)
}

async fn sign_in(
    from: SignInClient,
    State(state): State<ApiState>,
    session: Session,
    Form(form): Form<Credentials>,
) -> ApiResult<Response> {
    let email = form.email.clone();
    let attempt = async {
        throttle_account(&state, &form.email)?;
        let user = state.control().accounts().sign_in(&form.email, form.password, &from.client).await?;
        session::begin(&session, user.id, &from.client).await
    };
    Ok(finish(attempt.await, |error| sign_in_page(&email, Some(error))))
}

async fn sign_up_form() -> Response {
    sign_up_page("", None)
}

async fn sign_up(
    from: SignInClient,
    State(state): State<ApiState>,
    session: Session,
    Form(form): Form<Credentials>,
) -> ApiResult<Response> {
    let email = form.email.clone();
    let attempt = async {
        throttle_account(&state, &form.email)?;
        let wish = SignUp {
            email: form.email,
            password: form.password,
            name: filled(form.name),
            invite_code: filled(form.invite_code),
        };
        let user = state.control().accounts().sign_up(wish, &from.client).await?;
        session::begin(&session, user.id, &from.client).await
    };
    Ok(finish(attempt.await, |error| sign_up_page(&email, Some(error))))
}

fn finish(outcome: ApiResult<()>, show: impl FnOnce(&ApiError) -> Response) -> Response {
    match outcome {
        Ok(()) => Redirect::to("/account").into_response(),
        Err(error) => {
            let mut response = show(&error);
            *response.status_mut() = error.status();
            response
        }
    }
}

async fn sign_out(
    headers: HeaderMap,
    session: Session,
    State(state): State<ApiState>,
) -> ApiResult<Redirect> {
    if headers.contains_key(header::COOKIE) {
        crate::caller::check_own_site(&http::Method::POST, &headers, &state)?;
    }
    session::end(&session).await?;
    Ok(Redirect::to("/"))
}

fn failure(error: Option<&ApiError>) -> Markup {
    html! {
        @if let Some(error) = error {
            div.card.notice.bad role="alert" { (error.message()) }
        }
    }
}

fn sign_in_page(email: &str, error: Option<&ApiError>) -> Response {
    let body = html! {
        div.narrow {
            h1 { "Sign in" }
            (failure(error))
            form.card method="post" action="/sign-in" {
                label { "E-mail address" input type="email" name="email" value=(email) autocomplete="username" required autofocus; }
                label { "Password" input type="password" name="password" autocomplete="current-password" required; }
                button type="submit" { "Sign in" }
            }
            p { "No account yet? " a href="/sign-up" { "Create one" } "." }
        }
    };
    page("Sign in", Visitor::Anybody, body)
}

fn sign_up_page(email: &str, error: Option<&ApiError>) -> Response {
    let body = html! {
        div.narrow {
            h1 { "Create an account" }
            (failure(error))
            form.card method="post" action="/sign-up" {
                label { "E-mail address" input type="email" name="email" value=(email) autocomplete="username" required autofocus; }
                label { "Password" small { "At least 10 characters." }
                    input type="password" name="password" autocomplete="new-password" minlength="10" required; }
                label { "Name" small { "What to call you; may be left empty." } input name="name" autocomplete="name" maxlength="100"; }
                label { "Invite code" small { "If you have one; you can redeem it later too." } input name="invite_code" autocomplete="off"; }
                button type="submit" { "Create account" }
            }
            p { "Have an account? " a href="/sign-in" { "Sign in" } "." }
        }
    };
    page("Create an account", Visitor::Anybody, body)
}
