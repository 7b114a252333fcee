//! What is printed once the server listens: where it is, and how to get in.

use std::net::SocketAddr;

use reef_config::{Config, Origin};
use reef_control::{
    Actor, Control,
    account::{FirstOperator, InviteTerms, NewKey},
};
use reef_model::{Plan, RequestId, Scopes, UserId};
use secrecy::ExposeSecret;

use crate::output::say;

mod at_hand;

use at_hand::AtHand;

/// The text to print.
pub(crate) struct Greeting(String);

impl Greeting {
    /// Makes the operator's account where there is none, and on the first start an invite. Where only this machine can see
    /// it, every start has a key and an invite in lines to paste.
    pub(crate) async fn prepare(
        config: &Config,
        origin: &Origin,
        bound: SocketAddr,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let operator = &config.operator;
        let FirstOperator { user, made_password } =
            control.accounts().ensure_operator(Some(&operator.email), operator.password.clone()).await?;
        let mut text = format!(
            "\n  Reef {} is at {origin}\n\n  Sign in       {origin}/account as {}\n",
            env!("CARGO_PKG_VERSION"),
            user.email
        );
        let is_first = is_first_start(control).await?;
        match &made_password {
            Some(password) => {
                text += &format!("                password {} (shown this once)\n", password.expose_secret());
            }
            None if is_first => text += "                with the password in REEF_ADMIN_PASSWORD\n",
            None => {}
        }
        let is_local = bound.ip().is_loopback() && origin.is_loopback();
        if !is_first {
            let program = std::env::args().next().unwrap_or_else(|| "reef".to_owned());
            text += &format!(
                "  New key       {program} admin key create\n  New invite    {program} admin invite create\n"
            );
        }
        if is_local {
            let AtHand { key, invite } = AtHand::obtain(control, user.id).await?;
            text += &format!(
                "  Invite code   {invite}\n\n  From nothing to a streamed answer, to paste as they are:\n\n{}",
                lines(origin, &key, &invite)
            );
        } else if is_first {
            text += &format!("  Invite code   {}\n", invite(control, user.id).await?);
        }
        Ok(Self(text))
    }

    /// Prints it to standard output.
    pub(crate) fn print(&self) {
        say(&self.0);
    }
}

/// Three lines for any POSIX shell.
fn lines(origin: &Origin, key: &str, invite: &str) -> String {
    let authorized = r#"-H "Authorization: Bearer $KEY" -H 'Content-Type: application/json'"#;
    format!(
        "REEF={origin} KEY={key}; curl -fsS \"$REEF/api\"; echo\n\
         INSTANCE=$(curl -fsS \"$REEF/api/instances?wait=120\" {authorized} \
         -d '{{\"name\":\"first\",\"invite_code\":\"{invite}\"}}' | grep -o 'inst_[0-9a-z]*' | head -n 1); echo \"$INSTANCE\"\n\
         curl -fNsS \"$REEF/api/instances/$INSTANCE/chat/stream\" {authorized} -d '{{\"message\":\"Hello! Who are you?\"}}'\n"
    )
}

/// Tells whether this start is the first of the deployment; of servers that start together, one is told so.
async fn is_first_start(control: &Control) -> anyhow::Result<bool> {
    let ours = RequestId::generate().to_string();
    let mut tx = control.db().write().await?;
    let first = tx.get_or_insert_setting("first_start", &ours).await?;
    tx.commit().await?;
    Ok(first == ours)
}

async fn invite(control: &Control, operator: UserId) -> anyhow::Result<String> {
    let terms = InviteTerms { plan: Plan::Free, max_uses: 1, expires_at: None };
    let (_, code) = control.accounts().create_invite(&Actor::system(operator), terms).await?;
    Ok(code.expose().to_owned())
}

async fn key(control: &Control, operator: UserId) -> anyhow::Result<String> {
    let wish = NewKey { name: "make run".to_owned(), ..NewKey::default() };
    let (_, key) = control.accounts().mint_key(&Actor::system(operator), Scopes::key_default(), wish).await?;
    Ok(key.expose().to_owned())
}
