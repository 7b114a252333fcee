//! What Reef says by mail.

use maud::{DOCTYPE, html};
use reef_model::{Plan, Timestamp};
use serde::{Deserialize, Serialize};

/// What is to be said. Kept sealed: some letters hold a token.
///
/// Nothing that a stranger chose, a name for instance, is in a letter to somebody else: it would be advertising.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "letter", rename_all = "snake_case")]
pub enum Letter {
    /// Asks the holder of an address to prove that it is theirs.
    VerifyEmail {
        /// What proves it.
        token: String,
    },
    /// Lets them choose a new password.
    ResetPassword {
        /// What lets them.
        token: String,
    },
    /// Tells that it was changed.
    PasswordChanged,
    /// Tells the present address that another one shall take its place.
    EmailChange {
        /// The other one.
        to: String,
    },
    /// Tells of a sign-in from where there was none before.
    NewSignIn {
        /// When.
        at: Timestamp,
        /// From which address.
        ip: Option<String>,
        /// With which browser, in its own words.
        user_agent: Option<String>,
    },
    /// Gives an invite code away.
    Invite {
        /// The code.
        code: String,
        /// The plan of the instance that it gives the right to.
        plan: Plan,
        /// When it ends; none: never.
        expires_at: Option<Timestamp>,
    },
    /// Tells that the account is gone, and when its data will be.
    AccountDeleted {
        /// When.
        purge_at: Timestamp,
    },
}

/// A letter as it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// For every mail program.
    pub text: String,
    /// The same in HTML, which fetches nothing.
    pub html: String,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Letter").field(&self.kind()).finish()
    }
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Letter {
    /// Returns its name in lists and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::ResetPassword { .. } => "reset_password",
            Self::PasswordChanged => "password_changed",
            Self::EmailChange { .. } => "email_change",
            Self::NewSignIn { .. } => "new_sign_in",
            Self::Invite { .. } => "invite",
            Self::AccountDeleted { .. } => "account_deleted",
        }
    }

    /// Writes it, with links to the app at `origin` (no slash at its end).
    pub fn render(&self, origin: &str) -> Rendered {
        self.sheet(origin).render(origin)
    }

    fn sheet(&self, origin: &str) -> Sheet {
        match self {
            Self::VerifyEmail { token } => Sheet {
                subject: "Confirm your e-mail address",
                says: vec!["Please confirm that this address is yours.".to_owned()],
                link: Some(("Confirm the address", format!("{origin}/verify-email?token={token}"))),
                adds: vec![
                    "The link works once, for 24 hours. If you did not ask for it, do nothing.".to_owned(),
                ],
            },
            Self::ResetPassword { token } => Sheet {
                subject: "Choose a new password",
                says: vec!["Somebody, you we hope, asked for a new password for this account.".to_owned()],
                link: Some(("Choose a new password", format!("{origin}/reset-password?token={token}"))),
                adds: vec![
                    "The link works once, for one hour. It signs you out everywhere; API keys stay as they are."
                        .to_owned(),
                    "If it was not you, do nothing: your password is as it was.".to_owned(),
                ],
            },
            Self::PasswordChanged => Sheet {
                subject: "Your password was changed",
                says: vec!["The password of your account was changed, and other browsers were signed out.".to_owned()],
                link: Some(("See your account", format!("{origin}/account"))),
                adds: vec![format!("If it was not you, choose a new one at once: {origin}/forgot-password")],
            },
            Self::EmailChange { to } => Sheet {
                subject: "Your e-mail address is about to change",
                says: vec![format!(
                    "Your account is to get the address {to}. It does once the mail that we sent there is confirmed."
                )],
                link: Some(("See your account", format!("{origin}/account"))),
                adds: vec![format!(
                    "If it was not you, somebody knows your password: choose a new one at once, which also stops \
                     the change: {origin}/forgot-password"
                )],
            },
            Self::NewSignIn { at, ip, user_agent } => {
                let place = ip.as_deref().unwrap_or("an unknown address");
                let browser = user_agent.as_deref().map(plain).filter(|text| !text.is_empty());
                Sheet {
                    subject: "A new sign-in to your account",
                    says: [format!("Your account was signed in to at {at}, from {place}.")]
                        .into_iter()
                        .chain(browser.map(|browser| format!("It called itself: {browser}")))
                        .collect(),
                    link: Some(("See where you are signed in", format!("{origin}/account"))),
                    adds: vec![format!(
                        "If it was not you, choose a new password at once, which signs everybody out: \
                         {origin}/forgot-password"
                    )],
                }
            }
            Self::Invite { code, plan, expires_at } => Sheet {
                subject: "Your invitation",
                says: vec![format!("Here is an invite code for an OpenClaw instance (plan {plan}): {code}")],
                link: Some(("Accept the invitation", format!("{origin}/sign-up?invite={code}"))),
                adds: expires_at.map(|end| format!("The code ends at {end}.")).into_iter().collect(),
            },
            Self::AccountDeleted { purge_at } => Sheet {
                subject: "Your account was deleted",
                says: vec![
                    "Your account was deleted: its instances are down, its keys and sessions are of no use any more."
                        .to_owned(),
                    format!("All its data will be gone after {purge_at}."),
                ],
                link: None,
                adds: vec!["If it was not you, ask the operator of this service at once.".to_owned()],
            },
        }
    }
}

/// Cuts what a client said of itself to something that can be shown.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect::<String>().trim().to_owned()
}

/// A letter before it has a form.
struct Sheet {
    subject: &'static str,
    says: Vec<String>,
    /// What to do: its words and where.
    link: Option<(&'static str, String)>,
    adds: Vec<String>,
}

impl Sheet {
    fn render(self, origin: &str) -> Rendered {
        let foot = format!("This mail is from the Reef at {origin}.");
        let link = self.link.as_ref().map(|(label, link)| format!("{label}:\n{link}"));
        let paragraphs: Vec<&str> = self
            .says
            .iter()
            .chain(&link)
            .chain(&self.adds)
            .map(String::as_str)
            .chain([foot.as_str()])
            .collect();
        let text = paragraphs.join("\n\n") + "\n";
        let button = "display:inline-block;padding:10px 18px;border-radius:6px;background:#0b6b64;color:#fff;\
                      text-decoration:none";
        let html = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="color-scheme" content="light dark";
                    title { (self.subject) }
                }
                body style="font-family:system-ui,sans-serif;font-size:16px;line-height:1.5;max-width:36em;margin:2em auto;padding:0 1em" {
                    h1 style="font-size:20px" { (self.subject) }
                    @for paragraph in &self.says { p { (paragraph) } }
                    @if let Some((label, link)) = &self.link {
                        p { a href=(link) style=(button) { (label) } }
                        p style="font-size:13px" { "Or open " (link) }
                    }
                    @for paragraph in &self.adds { p { (paragraph) } }
                    p style="font-size:13px;opacity:.7" { (foot) }
                }
            }
        };
        Rendered { subject: self.subject.to_owned(), text, html: html.into_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://reef.example.org";

    fn letters() -> Vec<Letter> {
        let at = Timestamp::from_unix_micros(1_775_272_200_000_000);
        let (token, ip) = ("TOKEN".to_owned(), Some("192.0.2.1".to_owned()));
        vec![
            Letter::VerifyEmail { token: token.clone() },
            Letter::ResetPassword { token },
            Letter::PasswordChanged,
            Letter::EmailChange { to: "new@example.org".to_owned() },
            Letter::NewSignIn {
                at,
                ip,
                user_agent: Some("<img src=https://evil.example>\n\u{7}".to_owned()),
            },
            Letter::Invite { code: "01AB-CDEF".to_owned(), plan: Plan::Solo, expires_at: Some(at) },
            Letter::AccountDeleted { purge_at: at },
        ]
    }

    #[test]
    fn every_letter_says_the_same_in_both_forms_and_fetches_nothing() {
        for letter in letters() {
            let Rendered { subject, text, html } = letter.render(ORIGIN);
            assert!(!subject.contains('\n') && subject.len() < 60, "{subject}");
            for what in ["src=", "url(", "@import", "<link", "<script", "<img"] {
                // What was quoted is text.
                assert!(!html.replace("&lt;img src=", "").contains(what), "{letter:?}: {html}");
            }
            for link in text.split_whitespace().filter(|word| word.starts_with("https://reef")) {
                assert!(html.contains(link.trim_end_matches('.')), "{letter:?}: {link}");
            }
            let back: Letter = serde_json_round_trip(&letter);
            assert_eq!(back, letter);
        }
    }

    #[test]
    fn links_carry_the_token_and_debug_does_not() {
        let letter = Letter::ResetPassword { token: "TOKEN".to_owned() };
        let rendered = letter.render(ORIGIN);
        assert!(
            rendered.text.contains("https://reef.example.org/reset-password?token=TOKEN\n"),
            "{}",
            rendered.text
        );
        assert!(!format!("{letter:?} {rendered:?}").contains("TOKEN"));
    }

    fn serde_json_round_trip(letter: &Letter) -> Letter {
        serde_json::from_str(&serde_json::to_string(letter).unwrap()).unwrap()
    }
}
