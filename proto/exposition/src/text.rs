//! The text that Prometheus reads, in its own format and as OpenMetrics: families with their type and help, samples with their
//! labels, everything escaped. Collectors write with this; `serve` sends it.

use std::fmt::{Display, Write as _};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// As the header says it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, until what counts begins anew. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// The kernel does not say which.
    Untyped,
}

/// The text of one scrape.
pub struct Text {
    out: String,
    format: Format,
}

impl Text {
    /// Nothing yet. `capacity` bytes are made room for.
    #[must_use]
    pub fn new(format: Format, capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), format }
    }

    /// Begins a family, whose samples follow at once. One without samples is not written.
    pub fn family<'t>(&'t mut self, kind: Kind, name: &'t str, help: &'t str) -> Family<'t> {
        Family { text: self, kind, name, help, is_begun: false }
    }
    /// A family of counters.
    pub fn counter<'t>(&'t mut self, name: &'t str, help: &'t str) -> Family<'t> {
        self.family(Kind::Counter, name, help)
    }
    /// A family of gauges.
    pub fn gauge<'t>(&'t mut self, name: &'t str, help: &'t str) -> Family<'t> {
        self.family(Kind::Gauge, name, help)
    }

    /// A family with a sample for each row that has a value.
    pub fn column<'r, R, const N: usize>(
        &mut self,
        (kind, name, help): (Kind, &str, &str),
        rows: &'r [R],
        labels: impl Fn(&'r R) -> [(&'static str, &'r str); N],
        value: impl Fn(&'r R) -> Option<f64>,
    ) {
        let mut family = self.family(kind, name, help);
        for (row, value) in rows.iter().filter_map(|row| Some((row, value(row)?))) {
            family.sample(&labels(row), value);
        }
    }

    /// Whole families of this format, for another text.
    #[must_use]
    pub fn section(self) -> String {
        self.out
    }
    /// Adds such families.
    pub fn add(&mut self, section: &str) {
        self.out.push_str(section);
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn begin(&mut self, kind: Kind, name: &str, help: &str) {
        // Of a counter OpenMetrics names the family without the ending of its samples.
        let (name, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            (Format::OpenMetrics, Kind::Untyped) => (name, "unknown"),
            (Format::Prometheus, Kind::Counter) => (name, "counter"),
            (Format::Prometheus, Kind::Untyped) => (name, "untyped"),
            (_, Kind::Gauge) => (name, "gauge"),
        };
        ["# HELP ", name, " "].iter().for_each(|part| self.out.push_str(part));
        self.escaped(help);
        ["\n# TYPE ", name, " ", word, "\n"].iter().for_each(|part| self.out.push_str(part));
    }

    fn put(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        self.out.write_fmt(words).unwrap_or_default();
    }

    fn escaped(&mut self, text: &str) {
        // As nearly all of it is.
        if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
            return self.out.push_str(text);
        }
        for character in text.chars() {
            match character {
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '"' => self.out.push_str("\\\""),
                other => self.out.push(other),
            }
        }
    }
}

/// A family that is being written.
pub struct Family<'t> {
    text: &'t mut Text,
    kind: Kind,
    name: &'t str,
    help: &'t str,
    is_begun: bool,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.line(labels, &value);
        self
    }

    fn line(&mut self, labels: &[(&str, &str)], value: &dyn Display) {
        self.head(labels);
        self.text.put(format_args!(" {value}\n"));
    }

    /// Name and labels.
    fn head(&mut self, labels: &[(&str, &str)]) {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.text.begin(self.kind, self.name, self.help);
        }
        self.text.out.push_str(self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.out.push(if index == 0 { '{' } else { ',' });
            self.text.out.push_str(name);
            self.text.out.push_str("=\"");
            self.text.escaped(value);
            self.text.out.push('"');
        }
        if !labels.is_empty() {
            self.text.out.push('}');
        }
    }

    /// The only one.
    pub fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }
}

#[cfg(test)]
mod tests {
    //! Both formats, and labels that somebody else chose.
    use super::*;

    fn written(format: Format) -> String {
        let mut text = Text::new(format, 0);
        text.counter("node_cpu_seconds_total", "Seconds.").sample(&[("cpu", "0"), ("mode", "idle")], 1.25);
        text.gauge("node_load1", "1m load average.").value(0.5);
        text.family(Kind::Untyped, "node_vmstat_pgfault", "A \\ field\nof it.").value(7);
        text.gauge("drover_none", "Of nothing.");
        text.gauge("drover_app", "An app.").sample(&[("app", "a\"b\\c\nd é")], 1);
        text.finish()
    }

    #[test]
    fn both_formats_say_the_same_samples() {
        let expected = "# HELP node_cpu_seconds_total Seconds.\n# TYPE node_cpu_seconds_total counter\n\
            node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1.25\n\
            # HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.5\n\
            # HELP node_vmstat_pgfault A \\\\ field\\nof it.\n# TYPE node_vmstat_pgfault untyped\nnode_vmstat_pgfault 7\n\
            # HELP drover_app An app.\n# TYPE drover_app gauge\ndrover_app{app=\"a\\\"b\\\\c\\nd é\"} 1\n";
        assert_eq!(written(Format::Prometheus), expected);
        let open = expected
            .replace("# HELP node_cpu_seconds_total", "# HELP node_cpu_seconds")
            .replace("# TYPE node_cpu_seconds_total", "# TYPE node_cpu_seconds")
            .replace("untyped", "unknown");
        assert_eq!(written(Format::OpenMetrics), open + "# EOF\n");
    }
}
