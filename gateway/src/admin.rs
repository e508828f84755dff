//! Who may administer sagas: whoever has the token, or is one of the named users at the other end of a Unix socket.
//! Nobody, unless the gateway was started with either.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use subtle::ConstantTimeEq;

use crate::serve::Peer;

/// The shortest token that is taken, in characters: one that can't be guessed in any time, if it was drawn at random.
pub const TOKEN_CHARS_MIN: usize = 32;

/// Who may administer sagas.
#[derive(Debug, Default)]
pub struct Administrators {
    token: Option<Token>,
    uids: Vec<u32>,
}

struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// An administrator, by what it was recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Administrator {
    /// Has the token.
    Token,
    /// Is this user.
    User(u32),
}

impl fmt::Display for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("a holder of the administrators' token"),
            Self::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// Why somebody is no administrator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoAdministrator {
    /// This gateway has none.
    SwitchedOff,
    /// Nothing was shown by which one could be recognised.
    NothingShown,
    /// The token is another one.
    WrongToken,
}

/// Why administrators can't be set up. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminConfigError {
    /// There is no such user.
    #[error("there is no user {0}: create it, or give a number (--admin-user)")]
    UnknownUser(String),
    /// The system's list of users can't be read.
    #[error("can't look up user {name}: {source}")]
    Lookup {
        /// What was typed.
        name: String,
        /// Why.
        source: nix::Error,
    },
    /// The token's file can't be read.
    #[error("can't read {path}: {source}; it must hold the administrators' token (--admin-token-file)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everybody can read or write it.
    #[error("{0} can be read or written by everybody: take that away (chmod o-rwx), and draw a new token")]
    Open(PathBuf),
    /// It could be guessed.
    #[error(
        "{0} holds no token of at least {TOKEN_CHARS_MIN} visible characters: draw one (openssl rand -hex 32)"
    )]
    Short(PathBuf),
}

impl Administrators {
    /// Whoever has the token in this file, and these users by name or number. The file is read now, and not again.
    ///
    /// # Errors
    /// See [`AdminConfigError`].
    pub fn new(token_file: Option<&Path>, users: &[String]) -> Result<Self, AdminConfigError> {
        let token = token_file.map(read_token).transpose()?;
        let uids = users.iter().map(|name| user_id(name)).collect::<Result<_, _>>()?;
        Ok(Self { token, uids })
    }

    /// Whether there may be any.
    pub fn any(&self) -> bool {
        self.token.is_some() || !self.uids.is_empty()
    }

    /// Recognises an administrator by the connection, or by the token that the request shows.
    ///
    /// # Errors
    /// It is none.
    pub fn recognise(&self, peer: Peer, shown: Option<&str>) -> Result<Administrator, NoAdministrator> {
        if !self.any() {
            return Err(NoAdministrator::SwitchedOff);
        }
        if let Peer::Unix { uid } = peer
            && self.uids.contains(&uid)
        {
            return Ok(Administrator::User(uid));
        }
        let shown = shown.ok_or(NoAdministrator::NothingShown)?;
        let token = self.token.as_ref().ok_or(NoAdministrator::WrongToken)?;
        // Takes as long for every token of the same length.
        if bool::from(token.0.as_bytes().ct_eq(shown.as_bytes())) {
            Ok(Administrator::Token)
        } else {
            Err(NoAdministrator::WrongToken)
        }
    }
}

fn read_token(path: &Path) -> Result<Token, AdminConfigError> {
    let unreadable = |source| AdminConfigError::Unreadable { path: path.to_owned(), source };
    let everybody = fs::metadata(path).map_err(unreadable)?.mode() & 0o007;
    if everybody != 0 {
        return Err(AdminConfigError::Open(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let token = text.trim();
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || token.len() < TOKEN_CHARS_MIN {
        return Err(AdminConfigError::Short(path.to_owned()));
    }
    Ok(Token(token.to_owned()))
}

fn user_id(name: &str) -> Result<u32, AdminConfigError> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    let found = User::from_name(name);
    let found = found.map_err(|source| AdminConfigError::Lookup { name: name.to_owned(), source })?;
    found.map(|user| user.uid.as_raw()).ok_or_else(|| AdminConfigError::UnknownUser(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn nobody_is_an_administrator_unless_somebody_was_named() {
        let nobody = Administrators::new(None, &[]).unwrap();
        for peer in [Peer::Tcp, Peer::Unix { uid: 0 }, Peer::Unknown] {
            assert_eq!(nobody.recognise(peer, Some(TOKEN)), Err(NoAdministrator::SwitchedOff));
        }
    }

    #[test]
    fn the_token_counts_whole_and_from_anywhere() {
        let file = file(&format!("{TOKEN}\n"), 0o640);
        let admins = Administrators::new(Some(file.path()), &[]).unwrap();
        assert_eq!(admins.recognise(Peer::Tcp, Some(TOKEN)), Ok(Administrator::Token));
        assert_eq!(admins.recognise(Peer::Tcp, None), Err(NoAdministrator::NothingShown));
        for wrong in ["", &TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_uppercase()] {
            assert_eq!(admins.recognise(Peer::Unknown, Some(wrong)), Err(NoAdministrator::WrongToken));
        }
        assert!(!format!("{admins:?}").contains(TOKEN), "it is not told by accident");
    }

    #[test]
    fn a_user_counts_only_at_a_unix_socket() {
        let admins = Administrators::new(None, &["root".to_owned(), "4711".to_owned()]).unwrap();
        assert_eq!(admins.recognise(Peer::Unix { uid: 4711 }, None), Ok(Administrator::User(4711)));
        assert_eq!(admins.recognise(Peer::Unix { uid: 1 }, None), Err(NoAdministrator::NothingShown));
        assert_eq!(admins.recognise(Peer::Tcp, Some(TOKEN)), Err(NoAdministrator::WrongToken));
    }

    #[test]
    fn a_token_that_everybody_knows_or_guesses_is_refused() {
        let new = |file: &tempfile::NamedTempFile| Administrators::new(Some(file.path()), &[]);
        assert!(matches!(new(&file(TOKEN, 0o644)), Err(AdminConfigError::Open(_))));
        assert!(matches!(new(&file("secret", 0o600)), Err(AdminConfigError::Short(_))));
        assert!(matches!(new(&file("", 0o600)), Err(AdminConfigError::Short(_))));
        let missing = Administrators::new(Some(Path::new("/no/such/file")), &[]);
        assert!(matches!(missing, Err(AdminConfigError::Unreadable { .. })));
    }
}
