//! `drover logs`: the journal of an app's units, or what its hooks said, of all hosts in one stream.

use drover_proto::name::AppName;
use owo_colors::OwoColorize as _;
use tonic::Streaming;

use crate::{
    args::Output,
    client::{Client, LogLine},
    fault::{Exit, Fault, Outcome},
    show,
};

/// The newest lines of the journal, per host, unless said.
const LINES: u32 = 50;

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
    loop {
        match stream.message().await {
            Ok(Some(line)) => show::print(&render(&line, output)?)?,
            Ok(None) => return Ok(Exit::Done),
            Err(status) => return Err(client.fault(&status)),
        }
    }
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
