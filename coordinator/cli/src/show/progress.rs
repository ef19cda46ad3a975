//! A rollout while it moves: drawn over on a terminal, one stable line per change elsewhere. Fed by `cmd/watch` with every
//! view that the coordinator sends.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{
    name::HostName,
    rollout::{HostState, RolloutState},
    view::RolloutView,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    rollout::{spread, state_word, subject},
    short,
    table::{Tone, paint, tone},
};
use crate::fault::Fault;

/// More hosts than this are not drawn line by line.
const MAX_DRAWN_HOSTS: usize = 40;

/// Where progress goes.
pub enum Progress {
    /// Lines on a terminal that are drawn over.
    Live(Box<Live>),
    /// One line per change, on the standard output, or on the standard error beside JSON.
    Plain(Lines, Sink),
}

/// Where plain lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// For people and their logs.
    Output,
    /// When the standard output belongs to a JSON document.
    Errors,
}

impl Progress {
    /// `live`: a person watches.
    #[must_use]
    pub fn new(live: bool, sink: Sink) -> Self {
        if live { Self::Live(Box::new(Live::new())) } else { Self::Plain(Lines::default(), sink) }
    }
    /// Shows a view.
    pub fn show(&mut self, view: &RolloutView) -> Result<(), Fault> {
        match self {
            Self::Live(live) => {
                live.show(view);
                Ok(())
            }
            Self::Plain(lines, sink) => {
                let text: String = lines.of(view).iter().map(|line| format!("{line}\n")).collect();
                match sink {
                    Sink::Output => super::print(&text),
                    Sink::Errors if text.is_empty() => Ok(()),
                    Sink::Errors => {
                        super::note(text.trim_end());
                        Ok(())
                    }
                }
            }
        }
    }
    /// A remark in between, e.g. that the connection was lost.
    pub fn remark(&self, text: &str) {
        match self {
            Self::Live(live) => live.all.suspend(|| super::note(text)),
            Self::Plain(..) => super::note(text),
        }
    }
    /// Takes what was drawn off the screen; the final table follows.
    pub fn finish(&self) {
        if let Self::Live(live) = self {
            // Each by itself: a spinner that still turns would draw over what follows.
            live.hosts.values().for_each(ProgressBar::finish_and_clear);
            live.head.finish_and_clear();
            // An error means that the terminal is gone, and with it what was drawn.
            drop(live.all.clear());
        }
    }
}

/// What has been said already, so that a line appears only for a new state or a new cause.
#[derive(Default)]
pub struct Lines {
    rollout: Option<String>,
    hosts: BTreeMap<HostName, (&'static str, String)>,
}

impl Lines {
    /// The lines that this view adds, e.g. `web-1  gating  healthy for 2.1 s`.
    pub fn of(&mut self, view: &RolloutView) -> Vec<String> {
        let width = view.targets.iter().map(|t| t.host.as_str().len()).max().unwrap_or(0);
        let mut lines = Vec::new();
        let state = rollout_line(view);
        let is_news = self.rollout.as_ref() != Some(&state);
        // The end of a rollout is told after what its hosts did, everything else before.
        if is_news && !view.summary.state.is_final() {
            lines.push(state.clone());
        }
        for target in &view.targets {
            let said = (state_word(view, target), cause(&target.state));
            if self.hosts.get(&target.host) != Some(&said) {
                // Everybody is pending at first; that is no news.
                if said.0 != "pending" || self.hosts.contains_key(&target.host) {
                    let (host, detail) = (target.host.as_str(), short(&target.state.detail()));
                    let line = format!("{host:<width$}  {:<11}  {detail}", said.0);
                    lines.push(line.trim_end().to_owned());
                }
                self.hosts.insert(target.host.clone(), said);
            }
        }
        if is_news {
            if view.summary.state.is_final() {
                lines.push(state.clone());
            }
            self.rollout = Some(state);
        }
        lines
    }
}

fn rollout_line(view: &RolloutView) -> String {
    let reason = view.summary.state.reason().map(|r| format!(": {}", short(&r))).unwrap_or_default();
    let hint = match view.summary.state {
        RolloutState::Paused { .. } => format!(" (go on with: drover rollout resume {})", view.summary.id),
        _ => String::new(),
    };
    format!("rollout {}  {}  {}{reason}{hint}", view.summary.id, subject(view), view.summary.state.word())
}

/// The part of a state's detail that does not tick.
fn cause(state: &HostState) -> String {
    match state {
        HostState::Failed { cause: text }
        | HostState::Skipped { reason: text }
        | HostState::Reverting { cause: text }
        | HostState::Reverted { cause: text } => text.clone(),
        HostState::Pending
        | HostState::Fetching { .. }
        | HostState::Staged { .. }
        | HostState::Activating { .. }
        | HostState::Gating { .. }
        | HostState::Healthy
        | HostState::Unreachable { .. } => String::new(),
    }
}

/// Lines on a terminal: one for the rollout, one per host.
pub struct Live {
    all: MultiProgress,
    head: ProgressBar,
    hosts: BTreeMap<HostName, ProgressBar>,
}

impl Live {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let head = all.add(bar("{wide_msg}"));
        Self { all, head, hosts: BTreeMap::new() }
    }
    fn show(&mut self, view: &RolloutView) {
        let word = view.summary.state.word();
        self.head.set_message(drawn(&format!("{} · {}", paint(word, &rollout_line(view)), spread(view))));
        let width = view.targets.iter().map(|t| t.host.as_str().len()).max().unwrap_or(0);
        for target in &view.targets {
            let word = state_word(view, target);
            let is_moving = matches!(tone(word), Tone::Wait) && word != "skipped";
            // With very many hosts only those that move or failed have a line.
            if view.targets.len() > MAX_DRAWN_HOSTS && !is_moving && tone(word) != Tone::Bad {
                if let Some(done) = self.hosts.remove(&target.host) {
                    self.all.remove(&done);
                }
                continue;
            }
            let line =
                self.hosts.entry(target.host.clone()).or_insert_with(|| self.all.add(bar("{spinner} {wide_msg}")));
            if is_moving {
                line.enable_steady_tick(Duration::from_millis(120));
            } else {
                line.disable_steady_tick();
            }
            let padded = paint(word, &format!("{word:<11}"));
            let name = target.host.as_str();
            line.set_message(drawn(&format!("{name:<width$}  {padded}  {}", short(&target.state.detail()))));
        }
    }
}

/// The text as the terminal gets it: `NO_COLOR` holds here too, where `show::print` does not come by.
fn drawn(text: &str) -> String {
    if anstream::AutoStream::choice(&std::io::stderr()) == anstream::ColorChoice::Never {
        return anstream::adapter::strip_str(text).to_string();
    }
    text.to_owned()
}

fn bar(template: &str) -> ProgressBar {
    // The templates are the two above; a wrong one would show as a plain bar.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style.tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]))
}

/// The bar of an upload of `bytes`, on the standard error; hidden without a terminal.
#[must_use]
pub fn upload(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("sending artifact {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(bytes);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    //! The plain lines: stable, and only for news.
    use super::*;
    use crate::show::rollout::tests::view;

    #[test]
    fn a_line_appears_only_for_a_new_state_or_cause() {
        let mut lines = Lines::default();
        let gating = |ms| HostState::Gating { healthy_for_ms: ms, waiting_for: vec![] };
        let at = |web_1, web_10| view(RolloutState::Running, vec![("web-1", web_1), ("web-10", web_10)]);
        let first = lines.of(&at(HostState::Fetching { step: "artifact".to_owned() }, HostState::Pending));
        assert_eq!(first, ["rollout 7  mono/17  running", "web-1   fetching     artifact"]);
        assert_eq!(lines.of(&at(gating(2100), HostState::Pending)), ["web-1   gating       healthy for 2.1 s"]);
        assert_eq!(lines.of(&at(gating(3100), HostState::Pending)), Vec::<String>::new());
        let end = view(RolloutState::Succeeded, vec![("web-1", HostState::Healthy), ("web-10", HostState::Healthy)]);
        assert_eq!(lines.of(&end), ["web-1   healthy", "web-10  healthy", "rollout 7  mono/17  succeeded"]);
    }

    #[test]
    fn a_pause_says_how_to_go_on() {
        let paused = view(RolloutState::Paused { reason: "paused by ada".to_owned() }, vec![]);
        let expected = "rollout 7  mono/17  paused: paused by ada (go on with: drover rollout resume 7)";
        assert_eq!(Lines::default().of(&paused), [expected]);
    }
}
