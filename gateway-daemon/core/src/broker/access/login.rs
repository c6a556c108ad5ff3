//! Who somebody is.

use std::sync::Arc;

use super::Access;

/// A hash of a password that nobody knows, for brokers without any password: the cost is that of `gateway-daemon passwd`.
const NOBODY: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$c29tZWJvZHkgZWxzZSE$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Longest password that is compared, bytes: many connections at once may wait for their comparison.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// What a connection says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The client id that it will have.
    pub client: &'a str,
    /// The name in its verified certificate, if the listener takes it as the user.
    pub certificate: Option<&'a str>,
    /// Whether the listener lets nobody in.
    pub anonymous: bool,
    /// User name of CONNECT.
    pub user: Option<&'a str>,
    /// Password of CONNECT.
    pub password: Option<&'a [u8]>,
}

/// What comes next for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// It is let in; `None` is anonymous.
    Accepted(Option<Arc<str>>),
    /// It is let in as this user if its password fits this hash. The hash is nobody's when the user is not known, has no password or may not
    /// use the client id: the refusal takes as long and reads the same.
    Verify {
        /// The user, if the password fits.
        user: Arc<str>,
        /// What [`crate::broker::Action::Verify`] carries.
        hash: Arc<str>,
        /// Whether it is the user's own.
        known: bool,
    },
    /// A user name without a password or with one above [`PASSWORD_BYTES_MAX`], which is as good as a wrong one: "bad user name or password".
    BadPassword,
    /// Nobody, where nobody is let in, or a client id that belongs to others: "not authorised".
    NotAuthorized,
}

impl Access {
    /// Decides who a connection is, or what has to be compared first. Without any user there is nobody to be: where everybody is let in, a user name and
    /// a password are then as good as none.
    #[must_use]
    pub fn login(&self, claim: &Claim<'_>) -> Login {
        let accept = |user: Option<&str>| match self.may_use(claim.client, user) {
            true => Login::Accepted(user.map(Into::into)),
            false => Login::NotAuthorized,
        };
        match (claim.certificate, claim.user, claim.password) {
            (Some(name), _, _) => accept(Some(name)),
            (None, Some(_), _) if claim.anonymous && self.users.is_empty() => accept(None),
            (None, Some(user), Some(password)) if password.len() <= PASSWORD_BYTES_MAX => {
                let hash = self.users.get(user).and_then(|u| u.hash.clone());
                let known = hash.is_some();
                Login::Verify { user: user.into(), hash: hash.unwrap_or_else(|| self.nobody()), known }
            }
            (None, Some(_), _) => Login::BadPassword,
            // 5.0 allows a password without a user name; there is nobody to compare it with.
            (None, None, _) if claim.anonymous => accept(None),
            (None, None, _) => Login::NotAuthorized,
        }
    }

    /// A hash that no password fits, of the same cost as that of the first user that has one.
    fn nobody(&self) -> Arc<str> {
        let first = self.users.values().find_map(|u| u.hash.as_deref()).unwrap_or(NOBODY);
        let Some((head, digest)) = first.rsplit_once('$') else { return NOBODY.into() };
        // All bits zero: one password in 2^256 has this digest.
        format!("{head}${}", "A".repeat(digest.len())).into()
    }
}
