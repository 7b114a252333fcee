//! Facts about this deployment, by name.

use crate::{DbError, Sql, Tx, statement::statements};

statements! {
    /// Returns a setting.
    pub Db.lookup_setting(key: &str) -> Option<(String,)>
        = Sql::same("SELECT value FROM settings WHERE key = $1"),
        [key];

    /// Replaces a setting.
    pub Tx.set_setting(key: &str, value: &str) -> Count
        = Sql::same("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"),
        [key, value];

    pub(crate) Tx.read_setting(key: &str) -> One<(String,)>
        = Sql::same("SELECT value FROM settings WHERE key = $1"),
        [key];

    pub(crate) Tx.offer_setting(key: &str, value: &str) -> Count
        = Sql::same("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"),
        [key, value];
}

impl Tx {
    /// Returns the setting `key`, which becomes `value` where it was not set; racing servers all get the same.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn get_or_insert_setting(&mut self, key: &str, value: &str) -> Result<String, DbError> {
        self.offer_setting(key, value).await?;
        Ok(self.read_setting(key).await?.0)
    }
}
