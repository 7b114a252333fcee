//! Accounts.

use reef_model::{Role, Timestamp, UserId};

use crate::{Page, Sql, statement::statements};

/// An account.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UserRow {
    /// The id; also the tenant.
    pub id: UserId,
    /// The address, normalised.
    pub email: String,
    /// What to call them.
    pub name: Option<String>,
    /// Argon2id, as a PHC string.
    pub password_hash: String,
    /// Tenant or operator.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// When the address was proven to be its holder's.
    pub email_verified_at: Option<Timestamp>,
    /// Since when an operator keeps it from being used.
    pub locked_at: Option<Timestamp>,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("id", &self.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// An account as operators list it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UserSummary {
    /// The account.
    #[sqlx(flatten)]
    pub user: UserRow,
    /// How many instances it has, without soft-deleted ones.
    pub instances: i64,
}

/// A new account; the fields are those of [`UserRow`].
#[derive(Clone)]
#[expect(missing_docs, reason = "said at the fields of UserRow")]
pub struct NewUser {
    pub id: UserId,
    pub email: String,
    pub name: Option<String>,
    pub password_hash: String,
    pub role: Role,
    pub created_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, email, name, password_hash, role, created_at, deleted_at, email_verified_at, locked_at"
    };
}

statements! {
    /// Returns an account that is not deleted.
    pub Db.lookup_user(id: UserId) -> Option<UserRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM users WHERE id = $1 AND deleted_at IS NULL")),
        [id];

    /// Returns the account with this normalised address, unless deleted.
    pub Db.lookup_user_by_email(email: &str) -> Option<UserRow>
        = Sql::same(concat!("SELECT ", columns!(), " FROM users WHERE email = $1 AND deleted_at IS NULL")),
        [email];

    /// Returns the first operator.
    pub Db.lookup_operator() -> Option<UserRow>
        = Sql::same(concat!(
            "SELECT ", columns!(), " FROM users WHERE role = 'operator' AND deleted_at IS NULL ORDER BY id LIMIT 1"
        )),
        [];

    /// Returns a page of the accounts that are not deleted, newest first, for operators; those alone whose address is like
    /// `pattern`, in the words of SQL with `\` before what is meant literally.
    pub Db.list_users_any(pattern: &str, page: Page) -> Vec<UserSummary>
        = Sql::same(concat!(
            "SELECT ", columns!(), ", (SELECT COUNT(*) FROM instances WHERE instances.user_id = users.id \
             AND instances.deleted_at IS NULL) AS instances \
             FROM users WHERE id < $1 AND deleted_at IS NULL AND email LIKE $2 ESCAPE '\\' ORDER BY id DESC LIMIT $3"
        )),
        [page.bound(), pattern, page.limit];

    /// Inserts an account; a conflict with [`crate::Unique::UserEmail`] where the address is taken.
    pub Tx.insert_user(new: &NewUser) -> One<UserRow>
        = Sql::same(concat!(
            "INSERT INTO users (id, email, name, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ",
            columns!()
        )),
        [new.id, &new.email, new.name.as_deref(), &new.password_hash, new.role, new.created_at];

    /// Makes an account an operator's, or an ordinary one; `None`: no such account.
    pub Tx.set_user_role(id: UserId, role: Role) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET role = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ", columns!()
        )),
        [id, role];

    /// Locks an account since this instant, or opens it again; `None`: no such account.
    pub Tx.set_user_locked(id: UserId, locked_at: Option<Timestamp>) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET locked_at = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ", columns!()
        )),
        [id, locked_at];

    /// Returns an account that is not deleted and keeps other transactions from changing it until this one ends.
    pub Tx.lookup_user(id: UserId) -> Option<UserRow>
        = Sql::differing(
            concat!("SELECT ", columns!(), " FROM users WHERE id = $1 AND deleted_at IS NULL"),
            concat!("SELECT ", columns!(), " FROM users WHERE id = $1 AND deleted_at IS NULL FOR UPDATE"),
        ),
        [id];

    /// Gives an account another password; `None`: no such account.
    pub Tx.set_user_password(id: UserId, password_hash: &str) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET password_hash = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ", columns!()
        )),
        [id, password_hash];

    /// Gives an account another name, or none; `None`: no such account.
    pub Tx.set_user_name(id: UserId, name: Option<&str>) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET name = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ", columns!()
        )),
        [id, name];

    /// Gives an account this address, proven; a conflict with [`crate::Unique::UserEmail`] where another account has it.
    /// `None`: no such account.
    pub Tx.set_user_email(id: UserId, email: &str, verified_at: Timestamp) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET email = $2, email_verified_at = $3 WHERE id = $1 AND deleted_at IS NULL RETURNING ",
            columns!()
        )),
        [id, email, verified_at];

    /// Returns the operators who can act, and keeps other transactions from changing them until this one ends.
    pub Tx.lock_operators() -> Vec<(UserId,)>
        = Sql::differing(
            "SELECT id FROM users WHERE role = 'operator' AND deleted_at IS NULL AND locked_at IS NULL ORDER BY id",
            "SELECT id FROM users WHERE role = 'operator' AND deleted_at IS NULL AND locked_at IS NULL ORDER BY id FOR UPDATE",
        ),
        [];

    /// Marks an account deleted: nobody can use it, and its address is free. `None`: no such account.
    pub Tx.delete_user(id: UserId, now: Timestamp) -> Option<UserRow>
        = Sql::same(concat!(
            "UPDATE users SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING ", columns!()
        )),
        [id, now];

    /// Returns accounts that were deleted before `before` and have no instance any more, at most `limit`.
    pub Db.list_purgeable_users_any(before: Timestamp, limit: i64) -> Vec<(UserId,)>
        = Sql::same(
            "SELECT id FROM users WHERE deleted_at <= $1 \
             AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.user_id = users.id) ORDER BY id LIMIT $2"
        ),
        [before, limit];

    /// Removes the row of a deleted account; what refers to it must be gone.
    pub Tx.purge_user(id: UserId) -> Count
        = Sql::same("DELETE FROM users WHERE id = $1 AND deleted_at IS NOT NULL"),
        [id];
}
