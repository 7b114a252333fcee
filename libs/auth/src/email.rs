//! Mail addresses, normalised.

use std::{fmt, str::FromStr};

/// A mail address: trimmed, lower case, plausible. Whether it reaches anyone, only a mail can tell.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

/// The text is no mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mail address: expected name@domain, at most 254 characters")]
pub struct ParseEmailError;

impl Email {
    /// Returns the normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = ParseEmailError;
    fn from_str(text: &str) -> Result<Self, ParseEmailError> {
        let text = text.trim().to_lowercase();
        let (name, domain) = text.rsplit_once('@').ok_or(ParseEmailError)?;
        // Characters that separate or enclose addresses in a header would need quoting, which nobody uses.
        let is_special = |c: char| c.is_whitespace() || c.is_control() || r#"@,;:<>()[]\""#.contains(c);
        let is_plain = |part: &str| !part.is_empty() && !part.contains(is_special);
        let is_domain = domain.split('.').all(|label| !label.is_empty());
        if text.chars().count() <= 254
            && name.chars().count() <= 64
            && is_plain(name)
            && is_plain(domain)
            && is_domain
        {
            Ok(Self(text))
        } else {
            Err(ParseEmailError)
        }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normalises_and_refuses() {
        assert_eq!(" Ann.B+x@Example.ORG ".parse::<Email>().unwrap().as_str(), "ann.b+x@example.org");
        assert_eq!("operator@localhost".parse::<Email>().unwrap().as_str(), "operator@localhost");
        for bad in ["", "a", "@b", "a@", "a b@c.de", "a@b..c", "a@b\n.c", "a@b,c@d"] {
            assert!(bad.parse::<Email>().is_err(), "{bad:?}");
        }
        assert!(format!("{}@x.test", "a".repeat(250)).parse::<Email>().is_err());
    }

    proptest! {
        #[test]
        fn normal_forms_stay(text in "\\PC{0,20}@\\PC{0,20}") {
            if let Ok(email) = text.parse::<Email>() {
                prop_assert_eq!(email.as_str().parse::<Email>(), Ok(email));
            }
        }
    }
}
