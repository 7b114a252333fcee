//! Invite codes: 80 random bits as four groups of four characters of Crockford's base32, `XXXX-XXXX-XXXX-XXXX`.

use std::{fmt, str::FromStr};

use crate::sha256;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LEN: usize = 16;

/// The text is no invite code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an invite code: expected XXXX-XXXX-XXXX-XXXX")]
pub struct ParseInviteCodeError;

/// An invite code in its normal form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InviteCode([u8; LEN]);

impl InviteCode {
    /// Makes a code from the machine's random source.
    pub fn generate() -> Self {
        let random: [u8; LEN] = rand::random();
        Self(random.map(|byte| ALPHABET[usize::from(byte & 31)]))
    }

    /// Returns what it is stored and found by.
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[b"reef invite code\0", &self.0])
    }

    /// Returns the code as it is given out; shown once.
    pub fn expose(&self) -> String {
        self.groups().collect::<Vec<_>>().join("-")
    }

    /// Returns the last group, to tell codes apart in lists.
    pub fn hint(&self) -> &str {
        self.groups().last().unwrap_or_default()
    }

    fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.chunks(4).map(|group| std::str::from_utf8(group).unwrap_or_default())
    }
}

impl FromStr for InviteCode {
    type Err = ParseInviteCodeError;

    /// Reads a code as people write it: any case, any blanks and hyphens, `O` for 0, `I` and `L` for 1.
    fn from_str(text: &str) -> Result<Self, ParseInviteCodeError> {
        let mut code = [0; LEN];
        let mut len = 0;
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                c => c,
            };
            let byte =
                u8::try_from(c).ok().filter(|byte| ALPHABET.contains(byte)).ok_or(ParseInviteCodeError)?;
            *code.get_mut(len).ok_or(ParseInviteCodeError)? = byte;
            len += 1;
        }
        if len == LEN { Ok(Self(code)) } else { Err(ParseInviteCodeError) }
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteCode(…-{})", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let code = "01AB-CDEF-GHJK-MNPQ".parse::<InviteCode>().unwrap();
        assert_eq!((code.expose().as_str(), code.hint()), ("01AB-CDEF-GHJK-MNPQ", "MNPQ"));
        assert_eq!(" olab cdef ghjkmnpq\n".parse(), Ok(code));
        for bad in
            ["", "01AB-CDEF-GHJK-MNP", "01AB-CDEF-GHJK-MNPQ0", "U1AB-CDEF-GHJK-MNPQ", "é1AB-CDEF-GHJK-MNPQ"]
        {
            assert!(bad.parse::<InviteCode>().is_err(), "{bad:?}");
        }
        let made = InviteCode::generate();
        assert_eq!(made.expose().to_lowercase().parse(), Ok(made));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<InviteCode>();
        }
    }
}
