use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Role, is_name};

/// The tokens of the tokens file.
#[derive(Debug, Clone)]
pub struct Tokens(Vec<Token>);

#[derive(Debug, Clone)]
struct Token {
    name: String,
    role: Role,
    sha256: String,
}

/// An error in the tokens file.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("http.tokens_file: cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A line is malformed.
    #[error(
        "http.tokens_file: {0} line {1}: must be NAME ROLE SHA256; the name has 1 to 63 of the letters a-z and A-Z, digits and \
         . _ @ -, and is neither local nor belfry; the role is producer, viewer, publisher, operator or admin; the hash has 64 \
         hex digits"
    )]
    Line(PathBuf, usize),
}

impl Tokens {
    /// Reads a file of lines `NAME ROLE SHA256`. Empty lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or a line is malformed.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(path).map_err(|error| TokensError::File(path.to_owned(), error))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        lines
            .map(|(number, line)| parse(line).ok_or_else(|| TokensError::Line(path.to_owned(), number + 1)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns the name and the role of a token's owner, or `None` if the token is unknown.
    pub fn find(&self, token: &str) -> Option<(&str, Role)> {
        let hash = hex::encode(Sha256::digest(token.as_bytes()));
        // The comparison is of hashes, so its duration reveals nothing useful about the secret.
        self.0.iter().find(|known| known.sha256 == hash).map(|known| (known.name.as_str(), known.role))
    }
}

fn parse(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let name = words.next().filter(|name| is_name(name))?.to_owned();
    let role = words.next()?.parse().ok()?;
    let sha256 = words.next()?.to_ascii_lowercase();
    let hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && words.next().is_none()).then_some(Token { name, role, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        // printf secret | sha256sum
        let line = "ci publisher 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let tokens = Tokens(vec![parse(line).expect("a token")]);
        assert_eq!(tokens.find("secret"), Some(("ci", Role::Publisher)));
        assert_eq!(tokens.find("Secret"), None);
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let reserved = ["local", "belfry", "direct:root"].map(|name| format!("{name} admin {hash}"));
        let others = ["ci", "ci root 00", "ci viewer 00", "ci viewer 2bb8 extra"].map(str::to_owned);
        for line in reserved.iter().chain(&others) {
            assert!(parse(line).is_none(), "{line}");
        }
    }
}
