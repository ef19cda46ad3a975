//! `drover logs`: the journal of an app's units, or what its hooks said, of all hosts in one stream.

use std::time::{Duration, Instant};

use drover_proto::name::AppName;
use owo_colors::OwoColorize as _;
use tonic::{Status, Streaming};

use crate::{
    args::Output,
    client::{Client, LogLine, error},
    fault::{Exit, Fault, Outcome, Word},
    show,
};

/// The newest lines of the journal, per host, unless said.
const LINES: u32 = 50;

/// A line that took longer to print was not read: from then on the coordinator may have had enough.
const UNREAD: Duration = Duration::from_secs(10);

/// Prints lines as they come; with `follow` until interrupted.
pub async fn logs(app: &AppName, host: Option<&str>, follow: bool, lines: Option<u32>, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let stream = client.logs(app, host, follow, lines.unwrap_or(LINES)).await?;
    print(&client, stream, output).await
}

/// Prints what hooks said; `hook` empty = all of them.
pub async fn hooks(
    app: &AppName,
    host: Option<&str>,
    hook: &str,
    release: Option<u64>,
    lines: Option<u32>,
    output: Output,
) -> Outcome {
    let mut client = Client::connect().await?;
    let stream = client.hook_logs(app, host, hook, release, lines).await?;
    print(&client, stream, output).await
}

async fn print(client: &Client, mut stream: Streaming<LogLine>, output: Output) -> Outcome {
    let mut longest = Duration::ZERO;
    loop {
        match stream.message().await {
            Ok(Some(line)) => {
                let begun = Instant::now();
                show::print(&render(&line, output)?)?;
                longest = longest.max(begun.elapsed());
            }
            Ok(None) => return Ok(Exit::Done),
            Err(status) => return Err(not_read(&status, longest).unwrap_or_else(|| client.fault(&status))),
        }
    }
}

/// The coordinator cuts off who does not read: said so, if printing one line has kept this command waiting for that long.
fn not_read(status: &Status, longest: Duration) -> Option<Fault> {
    let message = "the logs were cut off: nothing had been read here for too long (a pager, or Ctrl-S)";
    (longest >= UNREAD && error::is_lost_connection(status)).then(|| Fault::word(Word::ConnectionLost, message))
}

/// `web-1 mono-api 10:58:03 text`; as JSON one object per line.
fn render(line: &LogLine, output: Output) -> Result<String, Fault> {
    match output {
        Output::Json => {
            let object = serde_json::json!({
                "host": line.host, "unit": line.unit, "unix_ms": line.unix_ms, "text": line.text,
            });
            Ok(format!("{object}\n"))
        }
        Output::Table => {
            let unit = line.unit.strip_suffix(".service").unwrap_or(&line.unit);
            let head = format!("{} {}", show::plain(unit), show::time::clock(line.unix_ms));
            Ok(format!("{} {} {}\n", show::plain(&line.host).cyan(), head.dimmed(), show::plain(&line.text)))
        }
    }
}

#[cfg(test)]
mod tests {
    //! A line for people and one for machines.
    use super::*;

    #[test]
    fn who_does_not_read_is_told_why_the_logs_end() {
        let lost = Status::unavailable("transport error");
        let said = not_read(&lost, Duration::from_secs(70)).unwrap();
        assert!(said.message.contains("read"), "{}", said.message);
        assert!(not_read(&lost, Duration::from_secs(1)).is_none());
        let refused = drover_proto::code::status(drover_proto::code::Code::NotFound, "no such app");
        assert!(not_read(&refused, Duration::from_secs(70)).is_none());
    }

    #[test]
    fn lines_name_host_and_unit() {
        let line = LogLine {
            unit: "mono.service".to_owned(),
            unix_ms: 1,
            text: "hello\x1b[2J".to_owned(),
            host: "web-1".to_owned(),
        };
        let table = show::tests::bare(&render(&line, Output::Table).unwrap());
        assert!(table.starts_with("web-1 mono ") && table.ends_with(" hello\\u{1b}[2J\n"), "{table}");
        let json = render(&line, Output::Json).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["unit"], "mono.service");
    }
}
