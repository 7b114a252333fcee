//! The key and the invite that a local start prints: the same as the last time for as long as they are good.

use reef_auth::{InviteCode, api_key::hash_presented};
use reef_control::Control;
use reef_model::UserId;

/// Where they are kept, sealed.
const SETTING: &str = "at_hand";

/// What the lines to paste need.
pub(super) struct AtHand {
    /// A key of the operator's.
    pub(super) key: String,
    /// An invite for one instance.
    pub(super) invite: String,
}

impl AtHand {
    /// Returns what the last start printed; what was used up or withdrawn since is made anew.
    pub(super) async fn obtain(control: &Control, operator: UserId) -> anyhow::Result<Self> {
        let kept = Self::kept(control).await?;
        let key = match &kept {
            Some(kept) if is_good_key(control, operator, &kept.key).await? => kept.key.clone(),
            _ => super::key(control, operator).await?,
        };
        let invite = match &kept {
            Some(kept) if is_good_invite(control, &kept.invite).await? => kept.invite.clone(),
            _ => super::invite(control, operator).await?,
        };
        let sealed = control.secrets().seal(format!("{key} {invite}").as_bytes(), SETTING.as_bytes());
        let mut tx = control.db().write().await?;
        tx.set_setting(SETTING, &hex::encode(sealed)).await?;
        tx.commit().await?;
        Ok(Self { key, invite })
    }

    async fn kept(control: &Control) -> anyhow::Result<Option<Self>> {
        let Some((sealed,)) = control.db().lookup_setting(SETTING).await? else { return Ok(None) };
        let text = control.secrets().open(&hex::decode(sealed)?, SETTING.as_bytes())?;
        let text = String::from_utf8(text)?;
        let kept = text.split_once(' ');
        Ok(kept.map(|(key, invite)| Self { key: key.to_owned(), invite: invite.to_owned() }))
    }
}

async fn is_good_key(control: &Control, operator: UserId, key: &str) -> anyhow::Result<bool> {
    let Some(hash) = hash_presented(key) else { return Ok(false) };
    let record = control.accounts().lookup_key(&hash).await?;
    Ok(record.is_some_and(|record| {
        record.caller().tenant == operator && record.expires_at().is_none_or(|end| end > control.now())
    }))
}

async fn is_good_invite(control: &Control, code: &str) -> anyhow::Result<bool> {
    let hash = code.parse::<InviteCode>()?.hash();
    // Tried, and not committed.
    let mut tx = control.db().write().await?;
    Ok(tx.redeem_invite(&hash, control.now()).await?.is_some())
}
