//! Sign-up, sign-in, and the first operator.

use std::net::IpAddr;

use ipnet::IpNet;
use reef_auth::{Email, InviteCode, SecretString, password, token::place_hash};
use reef_db::{DbError, NewUser, Tx, Unique, UserRow};
use reef_mail::Letter;
use reef_model::{Role, Timestamp, UserId};

use super::{Accounts, Client, invalid, redeem, valid_name};
use crate::{Actor, ControlError};

/// The operator's address where none is configured.
pub const DEFAULT_OPERATOR_EMAIL: &str = "operator@localhost";

/// What a new account is made of.
#[derive(Debug)]
pub struct SignUp {
    /// The address, as it was typed.
    pub email: String,
    /// The password, 10–1024 characters.
    pub password: SecretString,
    /// What to call them, 1–100 characters.
    pub name: Option<String>,
    /// An invite code to redeem at once.
    pub invite_code: Option<String>,
}

/// The operator, and what to tell them.
#[derive(Debug)]
pub struct FirstOperator {
    /// The account.
    pub user: UserRow,
    /// The password, where the account and the password were made just now: to be shown once.
    pub made_password: Option<SecretString>,
}

impl Accounts {
    /// Makes an account and, with a code, its entitlement: both or neither.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field, [`ControlError::InviteInvalid`], [`ControlError::Conflict`] where the
    /// address is taken, [`ControlError::Overloaded`].
    pub async fn sign_up(&self, wish: SignUp, client: &Client) -> Result<UserRow, ControlError> {
        let email: Email = wish.email.parse().map_err(|error| invalid("email", format!("{error}")))?;
        let name = wish.name.as_deref().map(valid_name).transpose()?;
        let code = match &wish.invite_code {
            Some(code) => Some(code.parse::<InviteCode>().map_err(|_| ControlError::InviteInvalid)?),
            None => None,
        };
        let password_hash = self.passwords.hash(wish.password).await?;
        let now = self.now();
        let new = NewUser {
            id: UserId::generate(),
            email: email.as_str().to_owned(),
            name,
            password_hash,
            role: Role::User,
            created_at: now,
        };
        let actor = Actor::signing_in(new.id, client);
        let mut tx = self.db.write().await?;
        let user = tx.insert_user(&new).await.map_err(|error| match error {
            DbError::Conflict(Unique::UserEmail) => {
                ControlError::Conflict("an account with this e-mail address exists; sign in instead".into())
            }
            error => error.into(),
        })?;
        if let Some(code) = code {
            redeem(&mut tx, user.id, code, now).await?;
        }
        self.note_place(&mut tx, &user, client, now).await?;
        self.ask_for_proof(&mut tx, user.id, &user.email, now).await?;
        tx.insert_audit(&actor.entry("account.sign_up", user.id, now)).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Returns the account that this address and password belong to. An unknown address takes as long as a wrong
    /// password.
    ///
    /// # Errors
    /// [`ControlError::BadCredentials`], [`ControlError::Locked`], [`ControlError::Overloaded`].
    pub async fn sign_in(
        &self,
        email: &str,
        password: SecretString,
        client: &Client,
    ) -> Result<UserRow, ControlError> {
        let user = match email.parse::<Email>() {
            Ok(email) => self.db.lookup_user_by_email(email.as_str()).await?,
            Err(_) => None,
        };
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let is_right = self.passwords.verify(password, hash).await?;
        let user = user.filter(|_| is_right).ok_or(ControlError::BadCredentials)?;
        if user.locked_at.is_some() {
            return Err(ControlError::Locked);
        }
        let now = self.now();
        let entry = Actor::signing_in(user.id, client).entry("account.sign_in", user.id, now);
        let mut tx = self.db.write().await?;
        let is_new = self.note_place(&mut tx, &user, client, now).await?;
        // An address that nobody has proven may be a stranger's.
        if is_new && user.email_verified_at.is_some() {
            let letter = Letter::NewSignIn {
                at: now,
                ip: client.ip.map(|ip| ip.to_string()),
                user_agent: client.user_agent.clone(),
            };
            self.post(&mut tx, Some(user.id), &user.email, letter, now).await?;
        }
        tx.insert_audit(&entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Notes from where somebody signs in; tells whether it is a new place beside others.
    async fn note_place(
        &self,
        tx: &mut Tx,
        user: &UserRow,
        client: &Client,
        now: Timestamp,
    ) -> Result<bool, ControlError> {
        let Some(ip) = client.ip else { return Ok(false) };
        let browser = client.user_agent.as_deref().unwrap_or_default();
        Ok(tx.note_place(user.id, &place_hash(browser, &network_of(ip)), now).await?)
    }

    /// Returns the operator; where there is none yet, makes one with this address and password, or with made ones.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] by field; [`ControlError::Conflict`] where an ordinary account has the address.
    pub async fn ensure_operator(
        &self,
        email: Option<&str>,
        password: Option<SecretString>,
    ) -> Result<FirstOperator, ControlError> {
        let email: Email = email
            .unwrap_or(DEFAULT_OPERATOR_EMAIL)
            .parse()
            .map_err(|error| invalid("email", format!("{error}")))?;
        if let Some(user) = self.db.lookup_operator().await? {
            return Ok(FirstOperator { user, made_password: None });
        }
        let made_password = password.is_none().then(password::generate);
        let password_hash =
            self.passwords.hash(password.or_else(|| made_password.clone()).unwrap_or_default()).await?;
        let now = self.now();
        let new = NewUser {
            id: UserId::generate(),
            email: email.as_str().to_owned(),
            name: None,
            password_hash,
            role: Role::Operator,
            created_at: now,
        };
        let mut tx = self.db.write().await?;
        match tx.insert_user(&new).await {
            Ok(user) => {
                tx.insert_audit(&Actor::system(user.id).entry("operator.create", user.id, now)).await?;
                tx.commit().await?;
                Ok(FirstOperator { user, made_password })
            }
            Err(DbError::Conflict(Unique::UserEmail)) => {
                drop(tx);
                // Another server that started at the same moment was first; or an ordinary account has the address.
                let user = self.db.lookup_operator().await?.ok_or_else(|| {
                    ControlError::Conflict(format!(
                        "{email} is the address of an ordinary account; choose another REEF_ADMIN_EMAIL"
                    ))
                })?;
                Ok(FirstOperator { user, made_password: None })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the network that an address is in: what one household or office has, more or less.
fn network_of(ip: IpAddr) -> String {
    let ip = ip.to_canonical();
    IpNet::new(ip, if ip.is_ipv4() { 24 } else { 48 })
        .map_or_else(|_| ip.to_string(), |net| net.trunc().to_string())
}
