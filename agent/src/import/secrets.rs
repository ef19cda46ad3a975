//! Pure: which values look like secrets. They do not leave the host. Part of `import`.
//!
//! Rather one too many: whoever takes the manifest over can write the value into it.

/// In the name of a variable.
const WORDS: [&str; 11] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "APIKEY",
    "PRIVATE",
    "AUTH",
    "SIGNING",
    "DSN",
];
/// How tokens of well-known issuers begin.
const BEGINNINGS: [&str; 10] =
    ["sk-", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "AKIA", "eyJ", "-----BEGIN", "hf_"];
/// So long a word of letters and digits is nothing that a person made up.
const LONG: usize = 32;

/// Whether a variable's value is for nobody else's eyes.
pub(super) fn looks_secret(key: &str, value: &str) -> bool {
    let key = key.to_ascii_uppercase();
    // The place of a secret is none.
    let is_place =
        value.starts_with('/') && (key.ends_with("_FILE") || key.ends_with("_PATH") || key.ends_with("_DIR"));
    if value.is_empty() || is_place || matches!(value, "true" | "false" | "0" | "1") {
        return false;
    }
    let by_name = WORDS.iter().any(|word| key.contains(word))
        || key.ends_with("_KEY")
        || key == "KEY"
        || key.ends_with("_PWD")
        || key.ends_with("_PASS")
        || key == "PASS";
    by_name || is_telling(value)
}

/// Whether a text looks like a secret whatever it is called.
pub(super) fn is_telling(text: &str) -> bool {
    has_password(text) || BEGINNINGS.iter().any(|begin| text.starts_with(begin)) || is_random(text)
}

/// `scheme://user:password@host`.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    let account = rest.and_then(|rest| rest.split(['/', '?']).next()?.rsplit_once('@')).map(|(account, _)| account);
    account.and_then(|account| account.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

fn is_random(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b);
    text.len() >= LONG
        && text.bytes().all(word)
        && !text.starts_with('/')
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Whether an argument of a program holds one: `--password=x`, `postgres://a:b@c`.
pub(super) fn in_argument(argument: &str) -> bool {
    let (name, value) = argument.split_once('=').unwrap_or(("", argument));
    let option = name.trim_start_matches('-').replace('-', "_");
    if name.is_empty() { is_telling(argument) } else { looks_secret(&option, value) || is_telling(value) }
}

/// Whether the arguments of a program hold one, also as a word of its own: `--requirepass x`.
pub(super) fn among(arguments: &[&str]) -> bool {
    let word = |pair: &[&str]| {
        pair[0].starts_with('-') && !pair[0].contains('=') && !pair[1].starts_with('-') && {
            let option = pair[0].trim_start_matches('-').replace('-', "_");
            // The usual name of redis for it.
            looks_secret(&option, pair[1]) || option == "requirepass"
        }
    };
    arguments.iter().any(|argument| in_argument(argument)) || arguments.windows(2).any(word)
}

#[cfg(test)]
mod tests {
    //! What stays on the host, and what may be shown.
    use super::*;

    #[test]
    fn secrets_are_known_by_name_or_by_value() {
        for (key, value) in [
            ("DB_PASSWORD", "hunter2"),
            ("db_password", "x"),
            ("STRIPE_API_KEY", "x"),
            ("ACCESS_TOKEN", "x"),
            ("DATABASE_URL", "postgres://shop:hunter2@db/shop"),
            ("REDIS", "redis://:pw@redis:6379/0"),
            ("X", "ghp_0123"),
            ("HASH", "0123456789abcdef0123456789abcdef"),
        ] {
            assert!(looks_secret(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("PORT", "8000"),
            ("DB_PASSWORD", ""),
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/password"),
            ("DATABASE_URL", "postgres://db/shop"),
            ("URL", "https://example.test:443/a@b"),
            ("PWD", "/srv"),
            ("AUTH_ENABLED", "true"),
            ("GREETING", "hello to everybody who reads this text"),
        ] {
            assert!(!looks_secret(key, value), "{key}={value}");
        }
        assert!(in_argument("--db-password=x") && in_argument("amqp://a:b@c/"));
        assert!(!in_argument("--port=8000") && !in_argument("serve"));
        assert!(among(&["redis-server", "--requirepass", "x"]) && among(&["db", "--admin-password", "x"]));
        assert!(!among(&["serve", "--port", "8000", "--password", "--quiet"]));
    }
}
