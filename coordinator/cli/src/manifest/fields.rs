//! What a field of the manifest can be: the vocabulary of `table`, which lists every field once. The checks of `shape`, the
//! defaults, the JSON Schema and the tables of docs/MANIFEST.md all come from that one list.

/// What kind of value a field holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text; the word says what kind, e.g. `path`, `unit`. Numbers and truth values count as the text they are written as.
    Text(&'static str),
    /// `true` or `false`.
    Bool,
    /// A whole number between the two, inclusive.
    Int(u64, u64),
    /// A length of time.
    Duration,
    /// Permission bits in octal.
    Mode,
    /// A number of hosts or a percentage.
    Share,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A program and its arguments.
    Argv,
    /// Anything, compared as JSON.
    Json,
    /// A list.
    List(&'static Kind),
    /// One, or a list of them.
    OneOrMany(&'static Kind),
    /// A text (the word says what kind), or a map that says more.
    Short(&'static str, &'static Object),
    /// A list of the first, or a map with keys of the user's choice; the word says what they name.
    ListOrMap(&'static Kind, &'static str, &'static Kind),
    /// A map with keys of the user's choice; the word says what they name.
    Map(&'static str, &'static Kind),
    /// A map with these fields.
    Object(&'static Object),
}

/// What a field is when it is not there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// It has to be there.
    Required,
    /// Nothing.
    Absent,
    /// This text.
    Is(&'static str),
    /// A map whose fields have their own defaults.
    Fields,
    /// As these words say.
    Depends(&'static str),
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// When it is absent.
    pub default: Default,
    /// What it means, one line.
    pub doc: &'static str,
    /// A value, as YAML.
    pub example: &'static str,
}

/// A map with known fields.
#[derive(Debug)]
pub(super) struct Object {
    /// Its name in schema and documentation.
    pub name: &'static str,
    /// Built fields.
    pub fields: &'static [Field],
    /// Fields that a later version will have: refused by name.
    pub not_built: &'static [&'static str],
}

impl Object {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// An optional field.
    pub const fn new(name: &'static str, kind: Kind, doc: &'static str, example: &'static str) -> Self {
        Self { name, kind, default: Default::Absent, doc, example }
    }
    /// It has to be there.
    pub const fn required(self) -> Self {
        self.or(Default::Required)
    }
    /// It is `text` when absent.
    pub const fn default(self, text: &'static str) -> Self {
        self.or(Default::Is(text))
    }
    /// It is a map of defaults when absent.
    pub const fn default_fields(self) -> Self {
        self.or(Default::Fields)
    }
    /// Its default depends on other fields.
    pub const fn depends(self, words: &'static str) -> Self {
        self.or(Default::Depends(words))
    }
    const fn or(self, default: Default) -> Self {
        let Self { name, kind, doc, example, default: _ } = self;
        Self { name, kind, default, doc, example }
    }
}

impl Kind {
    /// For people, e.g. `list of path`.
    pub fn words(&self) -> String {
        match self {
            Self::Text(what) => (*what).to_owned(),
            Self::Bool => "true or false".into(),
            Self::Int(low, high) => format!("number, {low} to {high}"),
            Self::Duration => "time (`250ms`, `10s`, `5m`, `1h30m`)".into(),
            Self::Mode => "octal mode".into(),
            Self::Share => "count or percentage".into(),
            Self::Choice(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
            Self::Argv => "list: program and arguments".into(),
            Self::Json => "any value".into(),
            Self::List(item) => format!("list of {}", item.words()),
            Self::OneOrMany(item) => format!("{}, or a list", item.words()),
            Self::Short(what, object) => format!("{what}, or [{0}](#{0})", object.name),
            Self::ListOrMap(item, key, named) => {
                format!("list of {}; or map: {key} → {}", item.words(), named.words())
            }
            Self::Map(key, item) => format!("map: {key} → {}", item.words()),
            Self::Object(object) => format!("[{}](#{})", object.name, object.name),
        }
    }
}
