//! Containers that drover has not made: which of them a release takes over as they are, which stand aside for another, and
//! when one comes back. Beside `plan`, for `containers`.

use drover_proto::name::ContainerName;

use super::{Input, containers};
use crate::{host::docker::aside_of, render::RenderedContainer};

/// Why the release may not have what runs under that name. One of the app's own is for it to have.
pub(super) fn forbidden(input: &Input<'_>, name: &ContainerName, container: &RenderedContainer) -> Option<String> {
    let seen = &input.observed.containers;
    let state = seen.states.get(name)?;
    let ours = state.app.as_ref() == Some(input.app);
    if !ours && (!container.spec.adopt || state.app.is_some()) {
        let hint = if state.app.is_none() { "adopt: true takes it over; or remove it" } else { "remove it" };
        return Some(format!(
            "a container {name} is there already and is not drover's; {hint}, or choose another name"
        ));
    }
    if ours && !state.adopted {
        return None;
    }
    if state.auto_remove {
        return Some(format!(
            "container {name} was started with --rm: it is gone for good as soon as it is stopped, and nothing could go back \
             to it; start it without that, or remove it"
        ));
    }
    if !ours && !seen.made.contains_key(name) {
        return Some(format!("container {name} is just being changed by somebody else; try again"));
    }
    let goes = match differences(input, name, container) {
        Some(differ) => !differ.is_empty(),
        None => !containers::is_made_of(state, container),
    };
    let taken = seen.aside.get(name).is_some_and(|id| *id != state.id);
    (goes && taken).then(|| {
        let aside = aside_of(name);
        format!("container {name} would stand aside as {aside}, and there is one already; remove it if nobody needs it")
    })
}

/// In what it differs from the release; `None` = it is drover's, or has been taken over.
pub(super) fn differences(
    input: &Input<'_>,
    name: &ContainerName,
    container: &RenderedContainer,
) -> Option<Vec<String>> {
    let seen = &input.observed.containers;
    let theirs = seen.states.get(name).is_some_and(|state| state.app.is_none());
    let made = seen.made.get(name).filter(|_| theirs)?;
    Some(made.differences(container, &containers::places(input, name)))
}

/// Whether what the release wants stands aside: it was taken over as it is by one that said the same.
pub(super) fn comes_back(input: &Input<'_>, name: &ContainerName, container: &RenderedContainer) -> bool {
    let alike = |id: &String| {
        let adopted = input.ledger.adopted.get(name);
        adopted.is_some_and(|it| it.fingerprint == Some(container.fingerprint) && it.id == *id)
    };
    input.observed.containers.aside.get(name).is_some_and(alike)
}
