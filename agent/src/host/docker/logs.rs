//! The output of containers, line by line, for `drover logs`. Part of `docker`.

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use drover_proto::name::ContainerName;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{DockerError, Engine, plain};
use crate::host::{journal::Line, process::printable};

/// Lines read ahead of a slow reader, of each container.
const READ_AHEAD: usize = 64;
/// A line that does not end is cut here.
const MAX_LINE_BYTES: usize = 16 << 10;

type Sent = Result<Line, DockerError>;

impl Engine {
    /// The last `lines` lines of each, then, if asked, all that follow until the stream is dropped. Of one container they
    /// are in order.
    pub fn follow(&self, names: Vec<ContainerName>, lines: u32, follow: bool) -> impl Stream<Item = Sent> + use<> {
        let engine = self.clone();
        stream::select_all(names.into_iter().map(move |name| {
            let (sender, receiver) = mpsc::channel(READ_AHEAD);
            tokio::spawn(relay(engine.clone(), name, lines, follow, sender));
            ReceiverStream::new(receiver)
        }))
    }
}

async fn relay(engine: Engine, name: ContainerName, lines: u32, follow: bool, sender: mpsc::Sender<Sent>) {
    let reading = async {
        let client = engine.client()?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true);
        let options = options.follow(follow).tail(&lines.to_string()).build();
        let mut stream = std::pin::pin!(client.logs(name.as_str(), Some(options)));
        let mut pending = Pending::default();
        while let Some(piece) = stream.next().await {
            let piece = match piece.map_err(plain) {
                // It has not been made yet, or is gone.
                Err(DockerError::NotFound(_)) => return Ok(()),
                other => other?,
            };
            for line in pending.take(&name, piece) {
                if sender.send(Ok(line)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        () = sender.closed() => {}
        done = reading => if let Err(error) = done {
            // The reader may have gone meanwhile.
            sender.send(Err(error)).await.ok();
        },
    }
}

/// What has come of the lines that have not ended, of output and errors.
#[derive(Default)]
struct Pending([Vec<u8>; 2]);

impl Pending {
    fn take(&mut self, name: &ContainerName, piece: LogOutput) -> Vec<Line> {
        let pending = &mut self.0[usize::from(matches!(piece, LogOutput::StdErr { .. }))];
        pending.extend_from_slice(&piece.into_bytes());
        let mut lines = Vec::new();
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            lines.push(parse(name, &line[..end]));
        }
        if pending.len() > MAX_LINE_BYTES {
            lines.push(parse(name, &std::mem::take(pending)));
        }
        lines
    }
}

/// `2026-11-28T19:20:24.123456789Z what was said`.
fn parse(name: &ContainerName, line: &[u8]) -> Line {
    let text = String::from_utf8_lossy(line);
    let (at, said) = text.split_once(' ').unwrap_or((&text, ""));
    let (unix_ms, said) = match at.parse::<jiff::Timestamp>() {
        Ok(at) => (at.as_millisecond(), said),
        Err(_) => (0, &*text),
    };
    Line { unit: name.to_string(), unix_ms, text: printable(said.trim_end_matches('\r').as_bytes()) }
}

#[cfg(test)]
mod tests {
    //! Pieces become lines.
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let name: ContainerName = "shop".parse().unwrap();
        let mut pending = Pending::default();
        let out = |text: &str| LogOutput::StdOut { message: text.to_owned().into() };
        let err = |text: &str| LogOutput::StdErr { message: text.to_owned().into() };
        assert!(pending.take(&name, out("2026-11-28T00:00:01.5Z he")).is_empty());
        assert!(pending.take(&name, err("2026-11-28T00:00:02Z ou")).is_empty());
        let lines = pending.take(&name, out("llo\r\n2026-11-28T00:00:03Z x\n2026"));
        let said: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(said, ["hello", "x"]);
        assert_eq!(lines[0].unix_ms % 10_000, 1_500);
        assert_eq!(pending.take(&name, err("ch\n"))[0].text, "ouch");
        assert_eq!(pending.take(&name, out(&"a".repeat(MAX_LINE_BYTES + 1))).len(), 1, "a line without an end is cut");
    }
}
