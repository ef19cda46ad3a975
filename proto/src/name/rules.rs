//! Which text is a name of which kind. Part of `name`.

pub(super) type Checked = Result<(), &'static str>;

fn only(text: &str, max_chars: usize, first: fn(char) -> bool, rest: fn(char) -> bool, why: &'static str) -> Checked {
    let mut chars = text.chars();
    let fits = chars.next().is_some_and(first) && chars.all(rest) && text.len() <= max_chars;
    if fits { Ok(()) } else { Err(why) }
}

fn lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

pub(super) fn word(text: &str) -> Checked {
    only(
        text,
        40,
        |c| c.is_ascii_lowercase(),
        |c| lower_or_digit(c) || c == '-' || c == '_',
        "use a lower-case letter, then letters, digits, '-' and '_', at most 40",
    )
}

pub(super) fn app(text: &str) -> Checked {
    const RULE: &str = "use a lower-case letter, then letters, digits and '-', at most 40, and perhaps '@environment'";
    let (base, environment) = text.split_once('@').map_or((text, None), |(b, e)| (b, Some(e)));
    only(base, 40, |c| c.is_ascii_lowercase(), |c| lower_or_digit(c) || c == '-', RULE)?;
    environment.map_or(Ok(()), |e| word(e).map_err(|_| RULE))
}

pub(super) fn host(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || c == '-' || c == '.',
        "use letters, digits, '-' and '.', at most 63, beginning with a letter or digit",
    )
}

pub(super) fn host_id(text: &str) -> Checked {
    let hex = text.strip_prefix("h-").unwrap_or_default();
    let fits = hex.len() == 16 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if fits { Ok(()) } else { Err("a host id is 'h-' and 16 hex digits") }
}

pub(super) fn operator(text: &str) -> Checked {
    only(
        text,
        64,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || "-_.@".contains(c),
        "use letters, digits, '-', '_', '.' and '@', at most 64",
    )
}

pub(super) fn label_key(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphabetic(),
        |c| c.is_ascii_alphanumeric() || "-_./".contains(c),
        "use a letter, then letters, digits, '-', '_', '.' and '/', at most 63",
    )
}

pub(super) fn label_value(text: &str) -> Checked {
    only(
        text,
        63,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
        "use letters, digits, '-', '_' and '.', at most 63, beginning with a letter or digit",
    )
}

pub(super) fn unit(text: &str) -> Checked {
    const SUFFIXES: [&str; 7] = [".service", ".socket", ".timer", ".path", ".target", ".mount", ".swap"];
    only(
        text,
        200,
        |c| c.is_ascii_alphanumeric() || c == '-' || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c),
        "use letters, digits, '-', '_', '.', '@', ':' and '\\', at most 200",
    )?;
    let named = SUFFIXES.iter().any(|suffix| text.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()));
    if named { Ok(()) } else { Err("end it in .service, .socket, .timer, .path, .target, .mount or .swap") }
}

pub(super) fn instance(text: &str) -> Checked {
    only(
        text,
        40,
        |c| c.is_ascii_alphanumeric() || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.:".contains(c),
        "use letters, digits, '-', '_', '.' and ':', at most 40, beginning with a letter or digit",
    )
}

pub(super) fn mount_point(text: &str) -> Checked {
    if text == "/" { Ok(()) } else { abs_path(text) }
}

pub(super) fn abs_path(text: &str) -> Checked {
    if text.len() > 4000 {
        return Err("a path is at most 4000 bytes");
    }
    let Some(rest) = text.strip_prefix('/') else { return Err("begin it with '/'") };
    if text.chars().any(char::is_control) {
        return Err("a path has no control characters");
    }
    if rest.is_empty() {
        return Err("the root directory itself is not allowed");
    }
    if rest.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("write it without '.', '..', double or trailing slashes");
    }
    Ok(())
}

pub(super) fn env_key(text: &str) -> Checked {
    only(
        text,
        128,
        |c| c.is_ascii_alphabetic() || c == '_',
        |c| c.is_ascii_alphanumeric() || c == '_',
        "use letters, digits and '_', not beginning with a digit",
    )
}

pub(super) fn secret(text: &str) -> Checked {
    only(
        text,
        128,
        |c| c.is_ascii_alphabetic() || c == '_',
        |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
        "use a letter, then letters, digits, '-', '_' and '.', at most 128",
    )
}

pub(super) fn user(text: &str) -> Checked {
    only(
        text,
        32,
        |c| c.is_ascii_lowercase() || c == '_',
        |c| lower_or_digit(c) || c == '-' || c == '_',
        "use a lower-case letter or '_', then letters, digits, '-' and '_', at most 32",
    )
}

pub(super) fn docker(text: &str) -> Checked {
    const RULE: &str = "use a letter or digit, then letters, digits, '-', '_' and '.', 2 to 128";
    let rest = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    only(text, 128, |c| c.is_ascii_alphanumeric(), rest, RULE)?;
    if text.ends_with(".drover-next") || text.ends_with(".drover-before") {
        return Err("that ending is drover's own");
    }
    if text.len() < 2 { Err(RULE) } else { Ok(()) }
}

pub(super) fn package(text: &str) -> Checked {
    let (name, version) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
    only(
        name,
        100,
        lower_or_digit,
        |c| lower_or_digit(c) || "+-.:".contains(c),
        "use lower-case letters, digits, '+', '-' and '.', perhaps '=version'",
    )?;
    version.map_or(Ok(()), |v| {
        only(
            v,
            100,
            |c| c.is_ascii_alphanumeric(),
            |c| c.is_ascii_alphanumeric() || "+-.:~".contains(c),
            "a version has letters, digits, '+', '-', '.', ':' and '~'",
        )
    })
}
