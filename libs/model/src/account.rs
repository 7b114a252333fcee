//! The words around accounts: roles, actors, invites, entitlements and revocations.

use crate::text::text_enum;

text_enum! {
    /// What an account is on this deployment.
    Role {
        /// A tenant.
        User = "user",
        /// A tenant who also runs the deployment.
        Operator = "operator",
    }
}

text_enum! {
    /// Who acted, as the audit says it.
    ActorKind {
        /// Nobody who has signed in.
        Anonymous = "anonymous",
        /// An account holder in a session.
        User = "user",
        /// A program with an API key.
        Key = "key",
        /// The operator, by administration routes or the command line.
        Operator = "operator",
        /// Reef itself: a reconciler, a sweep.
        System = "system",
    }
}

text_enum! {
    /// What an invite gives.
    InviteKind {
        /// The right to hold one instance.
        Instance = "instance",
    }
}

text_enum! {
    /// Where an entitlement came from.
    EntitlementSource {
        /// A redeemed invite.
        Invite = "invite",
        /// A paid subscription.
        Subscription = "subscription",
        /// The operator's grant.
        Operator = "operator",
    }
}

text_enum! {
    /// What lost its rights.
    Revoked {
        /// An API key.
        Key = "key",
        /// A browser session.
        Session = "session",
        /// A whole account: every key and session of it.
        User = "user",
    }
}

text_enum! {
    /// What a mailed token is good for.
    TokenPurpose {
        /// To prove that an address is one's own.
        VerifyEmail = "verify_email",
        /// To choose a new password.
        ResetPassword = "reset_password",
    }
}
