//! The journal of units, read through journalctl: the last words of a unit for evidence, and its log for `drover logs`.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use drover_proto::name::UnitName;
use futures_util::Stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::process::{self, Command, Ended, ProcessError, printable};

/// A line that a unit, or systemd about a unit, wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Whose.
    pub unit: String,
    /// When.
    pub unix_ms: i64,
    /// What, without control characters, at most 1000 bytes.
    pub text: String,
}

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// journalctl could not be run.
    #[error("the journal cannot be read: {0}")]
    Process(#[from] ProcessError),
    /// It said no.
    #[error("the journal cannot be read: {why}")]
    Refused {
        /// In its own words.
        why: String,
    },
}

const TAIL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than anyone follows a log.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// Lines read ahead of a slow reader.
const READ_AHEAD: usize = 256;

/// The last lines of a unit's journal since then, oldest first, for evidence. What cannot be read says so in its place.
pub async fn tail(unit: &UnitName, since_unix_ms: i64, lines: usize) -> Vec<String> {
    // What was written a moment ago may still be on its way; without it the evidence could miss the last words.
    let sync = Command::new(process::JOURNALCTL, vec!["--sync".to_owned()], Duration::from_secs(3));
    if let Err(error) = process::run(sync).await {
        tracing::debug!(%error, "the journal was not synced");
    }
    // Not with --since: together with --lines it gives the first lines since then, and the cause is in the last.
    let args = arguments(std::slice::from_ref(unit), lines);
    let read = process::run(Command::new(process::JOURNALCTL, args, TAIL_TIMEOUT)).await;
    let outcome = match read {
        Ok(outcome) => outcome,
        Err(error) => return vec![format!("(the journal cannot be read: {error})")],
    };
    let records = outcome.stdout.split(|byte| *byte == b'\n');
    let texts: Vec<String> = records.filter_map(parse).filter(|l| l.unix_ms >= since_unix_ms).map(|l| l.text).collect();
    match outcome.ended {
        Ended::Code(0) => texts,
        _ if texts.is_empty() => vec![format!("(the journal cannot be read: {})", outcome.last_line())],
        _ => texts,
    }
}

/// The last `lines` lines of units, then, if asked, all that follow until the stream is dropped.
pub fn follow(units: Vec<UnitName>, lines: u32, follow: bool) -> impl Stream<Item = Result<Line, JournalError>> {
    let mut args = arguments(&units, lines as usize);
    if follow {
        args.push("--follow".to_owned());
    }
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let reading = tokio::spawn(relay(Command::new(process::JOURNALCTL, args, FOLLOW_TIMEOUT), sender));
    Following { receiver, reading }
}

fn arguments(units: &[UnitName], lines: usize) -> Vec<String> {
    let fixed = ["--output=json", "--no-pager", "--quiet", "--all"].map(str::to_owned);
    let mut args = Vec::from(fixed);
    args.push(format!("--lines={lines}"));
    args.extend(units.iter().map(|unit| format!("--unit={unit}")));
    args
}

async fn relay(command: Command, sender: mpsc::Sender<Result<Line, JournalError>>) {
    let run = process::run_lines(command, |record| parse(record).map(Ok), &sender);
    let problem = match run.await {
        Ok(outcome) if outcome.ok() => return,
        Ok(outcome) => JournalError::Refused { why: outcome.last_line() },
        Err(error) => JournalError::Process(error),
    };
    if sender.send(Err(problem)).await.is_err() {
        tracing::debug!("nobody waits for the log any more");
    }
}

/// The lines as they come; journalctl ends with it.
struct Following {
    receiver: mpsc::Receiver<Result<Line, JournalError>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Stream for Following {
    type Item = Result<Line, JournalError>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// A record of `journalctl --output=json`; `None` for one without time or text.
fn parse(record: &[u8]) -> Option<Line> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let microseconds: i64 = record.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
    let text = match record.get("MESSAGE")? {
        Value::String(text) => printable(text.as_bytes()),
        // Bytes that are not UTF-8 come as numbers.
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(Value::as_u64).filter_map(|b| u8::try_from(b).ok());
            printable(&bytes.collect::<Vec<u8>>())
        }
        _ => return None,
    };
    // `UNIT` is what systemd itself wrote about a unit; what the unit wrote is `_SYSTEMD_UNIT`.
    let unit = record.get("UNIT").or_else(|| record.get("_SYSTEMD_UNIT")).and_then(Value::as_str).unwrap_or("");
    Some(Line { unit: unit.to_owned(), unix_ms: microseconds / 1000, text })
}

#[cfg(test)]
mod tests {
    //! Records of the journal, as journalctl writes them.
    use super::*;

    #[test]
    fn a_record_becomes_a_line() {
        let record =
            br#"{"MESSAGE":"listening","__REALTIME_TIMESTAMP":"1700000000123456","_SYSTEMD_UNIT":"mono.service"}"#;
        let line = parse(record).unwrap();
        assert_eq!(line, Line { unit: "mono.service".into(), unix_ms: 1_700_000_000_123, text: "listening".into() });
    }

    #[test]
    fn what_systemd_says_about_a_unit_counts_as_the_units() {
        let record =
            br#"{"MESSAGE":"Failed.","__REALTIME_TIMESTAMP":"1","_SYSTEMD_UNIT":"init.scope","UNIT":"a.service"}"#;
        assert_eq!(parse(record).unwrap().unit, "a.service");
    }

    #[test]
    fn bytes_and_colours_are_made_printable_and_rubbish_is_passed_over() {
        let record = br#"{"MESSAGE":[27,91,51,49,109,104,105,255],"__REALTIME_TIMESTAMP":"1000"}"#;
        assert_eq!(parse(record).unwrap().text, "hi\u{fffd}");
        for rubbish in [&b"not json"[..], b"{}", br#"{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1"}"#, b""] {
            assert_eq!(parse(rubbish), None);
        }
    }
}
