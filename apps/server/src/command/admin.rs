//! `reef admin`: what the operator does without the browser, beside a running server or with none.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Subcommand;
use reef_auth::{Email, Passwords, SecretBox, password};
use reef_config::Config;
use reef_control::{
    Actor,
    account::{Accounts, InviteTerms, NewKey, StandingChange},
};
use reef_db::{Db, Page, UserRow};
use reef_model::{
    ActorKind, Clock, InviteId, Plan, Revoked, Role, Scope, Scopes, SystemClock, Timestamp, TokenPurpose,
};
use secrecy::ExposeSecret;

use crate::{output::say, platform};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LISTED: i64 = 200;

/// `reef admin …`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Invite codes.
    #[command(subcommand)]
    Invite(Invite),
    /// API keys.
    #[command(subcommand)]
    Key(Key),
    /// Accounts.
    #[command(subcommand)]
    User(User),
}

/// `reef admin invite …`
#[derive(Subcommand)]
pub(crate) enum Invite {
    /// Make a code; it is printed once.
    Create {
        /// The plan of the instance that it gives the right to.
        #[arg(long, default_value = "free")]
        plan: Plan,
        /// How often it may be redeemed.
        #[arg(long, default_value_t = 1)]
        uses: i64,
        /// After how many days it ends; not given: never.
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
    },
    /// List the newest codes, by their first characters.
    List,
    /// Withdraw a code; what was redeemed stays.
    Revoke {
        /// The invite's id, as `list` shows it.
        id: InviteId,
    },
}

/// `reef admin key …`
#[derive(Subcommand)]
pub(crate) enum Key {
    /// Mint a key; it is printed once.
    Create {
        /// Whose it is; not given: the operator's.
        #[arg(long)]
        email: Option<String>,
        /// What to call it.
        #[arg(long, default_value = "command line")]
        name: String,
        /// What it may do, separated by commas; not given: everything but `account`.
        #[arg(long, value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// After how many days it ends; not given: when it is revoked.
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
    },
}

/// `reef admin user …`
#[derive(Subcommand)]
pub(crate) enum User {
    /// Make an account an operator's, or an ordinary one.
    SetRole {
        /// The account's address.
        email: String,
        /// `user` or `operator`.
        role: Role,
    },
    /// Give an account a new password, which is printed, and sign it out everywhere.
    ResetPassword {
        /// The account's address.
        email: String,
    },
}

/// Does it.
pub(crate) async fn run(config: Config, command: Command) -> anyhow::Result<ExitCode> {
    let db = platform::database(&config).await?;
    let secrets = SecretBox::new(&platform::server_key(&config)?, &[]);
    let accounts = Accounts::new(db.clone(), Arc::new(SystemClock), secrets);
    let first =
        accounts.ensure_operator(Some(&config.operator.email), config.operator.password.clone()).await?;
    if let Some(made) = first.made_password {
        say(&format!("The operator {} was made, password {}", first.user.email, made.expose_secret()));
    }
    let admin = Admin { db: db.clone(), accounts, operator: first.user };
    match command {
        Command::Invite(command) => admin.invite(command).await?,
        Command::Key(command) => admin.key(command).await?,
        Command::User(command) => admin.user(command).await?,
    }
    db.close().await;
    Ok(ExitCode::SUCCESS)
}

struct Admin {
    db: Db,
    accounts: Accounts,
    operator: UserRow,
}

impl Admin {
    async fn invite(&self, command: Invite) -> anyhow::Result<()> {
        match command {
            Invite::Create { plan, uses, expires_in } => {
                let terms = InviteTerms { plan, max_uses: uses, expires_at: expires_in.map(in_days) };
                let (_, code) = self.accounts.create_invite(&self.actor(&self.operator), terms).await?;
                say(&code.expose());
            }
            Invite::List => {
                for row in self.db.list_invites(Page { before: None, limit: LISTED }).await? {
                    let end = row.expires_at.map_or("never".to_owned(), |end| end.to_string());
                    let state = if row.revoked_at.is_some() { "  withdrawn" } else { "" };
                    say(&format!(
                        "{}  {}…  {}  used {} of {}  ends {end}{state}",
                        row.id, row.code_hint, row.plan, row.uses, row.max_uses
                    ));
                }
            }
            Invite::Revoke { id } => {
                self.accounts.revoke_invite(&self.actor(&self.operator), id).await.context("invite")?;
                say("Withdrawn.");
            }
        }
        Ok(())
    }

    async fn key(&self, command: Key) -> anyhow::Result<()> {
        let Key::Create { email, name, scopes, expires_in } = command;
        let owner = match email {
            Some(email) => self.account(&email).await?,
            None => self.operator.clone(),
        };
        let scopes = (!scopes.is_empty()).then(|| scopes.into_iter().collect::<Scopes>());
        let wish = NewKey { name, scopes, expires_at: expires_in.map(in_days), ..NewKey::default() };
        let (_, secret) = self.accounts.mint_key(&self.actor(&owner), Scopes::all(), wish).await?;
        say(secret.expose());
        Ok(())
    }

    async fn user(&self, command: User) -> anyhow::Result<()> {
        let now = SystemClock.now();
        match command {
            User::SetRole { email, role } => {
                let user = self.account(&email).await?;
                let change = StandingChange { role: Some(role), is_locked: None };
                self.accounts.change_standing(&self.actor(&user), user.id, change).await?;
                say(&format!("{} is {role} now.", user.email));
            }
            User::ResetPassword { email } => {
                let user = self.account(&email).await?;
                let made = password::generate();
                let hash = Passwords::default().hash(made.clone()).await?;
                let mut tx = self.db.write().await?;
                tx.set_user_password(user.id, &hash).await?.context("the account is gone")?;
                for purpose in TokenPurpose::ALL {
                    tx.delete_account_tokens(user.id, *purpose).await?;
                }
                tx.delete_other_sessions(user.id, None).await?;
                tx.insert_audit(&self.actor(&user).entry("account.reset_password", user.id, now)).await?;
                tx.insert_revocation(Revoked::User, user.id.as_uuid(), now).await?;
                tx.commit().await?;
                say(&format!("{}: {}", user.email, made.expose_secret()));
            }
        }
        Ok(())
    }

    async fn account(&self, email: &str) -> anyhow::Result<UserRow> {
        let email: Email = email.parse()?;
        let found = self.db.lookup_user_by_email(email.as_str()).await?;
        found.with_context(|| format!("there is no account {email}"))
    }

    /// The operator at the command line, acting on an account.
    fn actor(&self, on: &UserRow) -> Actor {
        Actor { kind: ActorKind::Operator, id: Some(self.operator.id.to_string()), ..Actor::system(on.id) }
    }
}

fn in_days(days: u32) -> Timestamp {
    SystemClock.now() + DAY * days
}
