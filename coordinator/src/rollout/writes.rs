//! Who wrote which generation of a host's spec: what a host refuses is charged to that rollout and to no other. `driver`
//! and `keeper` note what they write; `keeper` asks. In memory: a restart notes again what the stored rollouts know.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::name::{Generation, HostId, RolloutId};

/// Remembered per host; a refusal follows its spec within seconds.
const MAX_WRITES: usize = 64;

/// The newest writes of every host; clones share them.
#[derive(Clone, Default)]
pub(super) struct Writes(Arc<Mutex<BTreeMap<HostId, Newest>>>);

type Newest = VecDeque<(Generation, RolloutId)>;

impl Writes {
    /// A rollout wrote this generation; the first to write one stays its writer.
    pub fn note(&self, host: &HostId, generation: Generation, rollout: RolloutId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.entry(host.clone()).or_default();
        if newest.iter().any(|(written, _)| *written == generation) {
            return;
        }
        newest.push_back((generation, rollout));
        if newest.len() > MAX_WRITES {
            newest.pop_front();
        }
    }
    /// The rollout whose write is the newest that is not after `generation`.
    #[must_use]
    pub fn writer(&self, host: &HostId, generation: Generation) -> Option<RolloutId> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let up_to = all.get(host)?.iter().filter(|(written, _)| *written <= generation);
        up_to.max_by_key(|(written, _)| *written).map(|(_, rollout)| *rollout)
    }
    /// The host is gone.
    pub fn forget(&self, host: &HostId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }
}

#[cfg(test)]
mod tests {
    //! Two rollouts that write to one host.
    use super::*;

    #[test]
    fn a_generation_is_charged_to_the_newest_write_in_it() {
        let writes = Writes::default();
        let host: HostId = "h-0000000000000001".parse().unwrap();
        assert_eq!(writes.writer(&host, 9), None);
        for (generation, rollout) in [(10, 1), (12, 2), (12, 1)] {
            writes.note(&host, generation, rollout);
        }
        let charged = [9, 10, 11, 12, 13].map(|generation| writes.writer(&host, generation));
        assert_eq!(charged, [None, Some(1), Some(1), Some(2), Some(2)]);
        (13..200).for_each(|generation| writes.note(&host, generation, 3));
        assert_eq!(writes.writer(&host, 500), Some(3));
        writes.forget(&host);
        assert_eq!(writes.writer(&host, 500), None);
    }
}
