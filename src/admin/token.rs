//! The token of the guarded endpoints.
//!
//! Owns the format of its file, and how it is sent and compared. Must not know endpoints. Invariants: comparing takes the
//! same time wherever the token differs; the token is never printed.

use std::fmt;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::system::files;

/// The largest token file.
const MAX_TOKEN: usize = 4096;

/// The secret that guarded endpoints require.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a token file cannot be used.
#[derive(Debug)]
pub enum TokenError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file is empty, or has only white space.
    Empty(PathBuf),
    /// The file has more than a token, or characters that a header cannot have.
    Invalid(PathBuf),
}

impl Token {
    /// Reads the token from a file, without the white space around it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or does not hold a token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let bytes = files::read_limited(path, MAX_TOKEN)
            .map_err(|error| TokenError::Read(path.into(), error))?;
        let token = bytes.trim_ascii();
        if token.is_empty() {
            return Err(TokenError::Empty(path.into()));
        }
        match str::from_utf8(token) {
            Ok(text) if bytes.len() <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic) => {
                Ok(Self(text.to_owned()))
            }
            Ok(_) | Err(_) => Err(TokenError::Invalid(path.into())),
        }
    }

    /// The value of the `Authorization` header (RFC 6750, section 2.1).
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a request has this token, exactly once.
    pub(super) fn is_sent_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        // The scheme is case-insensitive (RFC 9110, section 11.1).
        let Some((scheme, sent)) = value.as_bytes().split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && same(sent.trim_ascii(), self.0.as_bytes())
    }
}

/// Compares every byte, even after a difference. The length is not secret.
fn same(sent: &[u8], secret: &[u8]) -> bool {
    if sent.len() != secret.len() {
        return false;
    }
    let differ = |sum: u8, (a, b): (&u8, &u8)| black_box(sum | (a ^ b));
    sent.iter().zip(secret).fold(0, differ) == 0
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "the token file {} cannot be read", path.display()),
            Self::Empty(path) => write!(f, "the token file {} is empty", path.display()),
            Self::Invalid(path) => write!(
                f,
                "the token file {} is not a single word of printable ASCII",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            Self::Empty(_) | Self::Invalid(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn token(content: &[u8]) -> Result<Token, TokenError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        Token::read(&path)
    }

    fn headers(authorization: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn white_space_around_a_token_is_not_part_of_it() {
        let token = token(b" s3cret\r\n").unwrap();
        assert_eq!(token.authorization(), "Bearer s3cret");
    }

    #[test]
    fn files_without_a_valid_token_are_rejected() {
        assert!(matches!(token(b""), Err(TokenError::Empty(_))));
        assert!(matches!(token(b" \n"), Err(TokenError::Empty(_))));
        for invalid in [&b"two words"[..], b"a\nb", b"\xff", &[b'x'; 4097]] {
            assert!(matches!(token(invalid), Err(TokenError::Invalid(_))));
        }
        let missing = Token::read(Path::new("/nonexistent/token"));
        assert!(matches!(missing, Err(TokenError::Read(..))));
    }

    #[test]
    fn only_the_exact_token_is_accepted() {
        let token = token(b"s3cret").unwrap();
        let accepts = |value: &'static str| token.is_sent_in(&headers(&[value]));
        assert!(accepts("Bearer s3cret") && accepts("bearer s3cret"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "Bearer S3cret",
        ] {
            assert!(!accepts(wrong), "{wrong}");
        }
        assert!(!token.is_sent_in(&headers(&["Bearer s3cret", "Bearer x"])));
    }
}
