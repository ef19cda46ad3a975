//! `drover top`: what every host is doing, drawn over on a terminal until Ctrl-C, over lost connections; elsewhere once.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use console::Term;
use drover_proto::view::TopView;
use tokio::time::sleep;

use crate::{
    args::{Output, TopSort},
    client::{Client, Document, document, error},
    fault::{Exit, Fault, Outcome, Word},
    show::{self, time::now_ms, top::table},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// `drover top`
pub async fn top(sort: TopSort, once: bool, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let is_live = show::is_live();
    // A table that nobody watches is of no use a second time; documents are.
    let once = once || (output == Output::Table && !is_live);
    let mut screen = Screen { term: Term::stdout(), lines: 0 };
    tokio::select! {
        biased;
        ended = pictures(&mut client, sort, once, output, &mut screen) => ended.map(|()| Exit::Done),
        signal = tokio::signal::ctrl_c() => match signal {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(Fault::io("cannot wait for Ctrl-C", &error)),
        },
    }
}

async fn pictures(
    client: &mut Client,
    sort: TopSort,
    once: bool,
    output: Output,
    screen: &mut Screen,
) -> Result<(), Fault> {
    let (mut pause, mut has_seen) = (FIRST_PAUSE, false);
    loop {
        let ended = match client.top().await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(view)) => {
                        (pause, has_seen) = (FIRST_PAUSE, true);
                        let mut picture: Document<TopView> = document(&view.json)?;
                        sort_by(&mut picture.value, sort);
                        match output {
                            Output::Json if once => return show::json(&picture.json),
                            Output::Json => show::print(&format!("{}\n", picture.json))?,
                            Output::Table if once => return show::print(&table(&picture.value, now_ms())),
                            Output::Table => screen.draw(&table(&picture.value, now_ms()))?,
                        }
                    }
                    // It ends when the coordinator is being stopped.
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            },
            Err(status) => Some(status),
        };
        match ended {
            Some(status) if !has_seen || !error::is_lost_connection(&status) => return Err(client.fault(&status)),
            None if !has_seen => return Err(Fault::word(Word::Connect, "the coordinator is stopping")),
            Some(_) | None => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Those of which nothing is known come last.
fn sort_by(view: &mut TopView, sort: TopSort) {
    let number = |row: &drover_proto::view::TopRow| {
        let figures = row.figures.filter(|_| row.connected)?;
        Some(match sort {
            TopSort::Name => return None,
            TopSort::Cpu => figures.cpu,
            TopSort::Memory => figures.memory,
            TopSort::Disk => figures.disk,
            TopSort::Load => figures.load1,
        })
    };
    // Stable: those that are alike stay in the order of their names.
    view.hosts.sort_by(|one, other| {
        let (one, other) = (number(one).unwrap_or(-1.0), number(other).unwrap_or(-1.0));
        other.total_cmp(&one)
    });
}

/// The lines that were drawn last.
struct Screen {
    term: Term,
    lines: usize,
}

impl Screen {
    /// Draws over what was drawn last, no larger than the terminal is.
    fn draw(&mut self, text: &str) -> Result<(), Fault> {
        let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
        let text = if plain { anstream::adapter::strip_str(text).to_string() } else { text.to_owned() };
        let (height, width) = self.term.size();
        let (height, width) = (usize::from(height).saturating_sub(1).max(1), usize::from(width).max(1));
        let lines: Vec<_> = text.lines().take(height).map(|line| console::truncate_str(line, width, "…")).collect();
        let drawn = self
            .term
            .clear_last_lines(self.lines.min(height))
            .and_then(|()| lines.iter().try_for_each(|line| self.term.write_line(line)));
        self.lines = lines.len();
        match drawn {
            Ok(()) => Ok(()),
            // The terminal is gone, and with it who watched.
            Err(_) if !io::stdout().is_terminal() => Ok(()),
            Err(error) => Err(Fault::io("cannot draw on the terminal", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    //! The order of the rows.
    use super::*;
    use crate::show::top::tests::row;

    #[test]
    fn the_busiest_come_first_and_the_unknown_last() {
        let mut offline = row("web-4", 99.0, 1.0);
        offline.connected = false;
        let rows = vec![row("web-1", 5.0, 3.0), row("web-2", 80.0, 1.0), row("web-3", 5.0, 9.0), offline];
        let order = |sort| {
            let mut view = TopView { hosts: rows.clone() };
            sort_by(&mut view, sort);
            view.hosts.iter().map(|row| row.host.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(order(TopSort::Cpu), ["web-2", "web-1", "web-3", "web-4"]);
        assert_eq!(order(TopSort::Load), ["web-3", "web-1", "web-2", "web-4"]);
        assert_eq!(order(TopSort::Name), ["web-1", "web-2", "web-3", "web-4"]);
    }
}
