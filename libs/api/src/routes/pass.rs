//! Routes that the instance answers: declared, not written.

/// Declares routes below `/api/instances/{id}` whose requests go to the same path on the instance's door.
///
/// Each names its method, path, handler and operation, how it is passed on ([`Way`](crate::forward::Way)), its marks, its
/// parameters beside `id`, and what else `utoipa::path` takes:
///
/// ```text
/// passed_on! {
///     right: Chat, scope: "chat", tag: "Chat";
///
///     /// Tells how a turn stands.
///     get "/chat/turns/{turn_id}" turn = "getTurn" {
///         way: Way::PROMPT, kind: "passthrough", wakes: false,
///         params: [("turn_id" = TurnId, Path)],
///         responses((status = 200, description = "The turn.", body = Turn)),
///     }
/// }
/// ```
macro_rules! passed_on {
    (right: $right:ty, scope: $scope:literal, tag: $tag:literal; $(
        $(#[$($doc:tt)*])*
        $method:ident $path:literal $name:ident = $operation:literal {
            way: $way:expr, kind: $kind:literal, wakes: $wakes:literal,
            params: [$($params:tt)*],
            $($rest:tt)*
        }
    )*) => {$(
        $(#[$($doc)*])*
        #[utoipa::path(
            $method, path = concat!("/api/instances/{id}", $path), operation_id = $operation, tag = $tag,
            params(("id" = reef_model::InstanceId, Path), $($params)*),
            $($rest)*
            extensions(("x-reef-scope" = json!($scope)), ("x-reef-wakes" = json!($wakes)), ("x-reef-kind" = json!($kind))),
        )]
        async fn $name(
            route: $crate::instance_route::InstanceRoute<$right>,
            state: axum::extract::State<$crate::ApiState>,
            request: axum::extract::Request,
        ) -> $crate::ApiResult<axum::response::Response> {
            $crate::forward::forward(&state, &route, $way, request).await
        }
    )*};
}

pub(crate) use passed_on;
