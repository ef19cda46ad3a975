//! How much room things take together: what images share counts once, and goes with the last of them. Part of `disk`.

use std::collections::BTreeMap;

use super::Target;

/// What lies on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Scales {
    /// Of what shares nothing.
    alone_bytes: u64,
    /// Size, and how many images have it.
    layers: BTreeMap<String, (u64, usize)>,
}

impl Scales {
    pub(super) fn put(&mut self, target: Option<&Target>, size_bytes: Option<u64>) {
        match target {
            Some(Target::Image(image)) => {
                for (layer, size) in &image.layers {
                    self.layers.entry(layer.clone()).or_insert((*size, 0)).1 += 1;
                }
            }
            Some(Target::Tree(..) | Target::Container(_) | Target::Cache(_)) => {
                self.alone_bytes = self.alone_bytes.saturating_add(size_bytes.unwrap_or(0));
            }
            None => {}
        }
    }

    pub(super) fn take(&mut self, target: Option<&Target>, size_bytes: Option<u64>) {
        match target {
            Some(Target::Image(image)) => {
                for (layer, _) in &image.layers {
                    if let Some((_, images)) = self.layers.get_mut(layer) {
                        *images = images.saturating_sub(1);
                    }
                }
                self.layers.retain(|_, (_, images)| *images > 0);
            }
            Some(Target::Tree(..) | Target::Container(_) | Target::Cache(_)) => {
                self.alone_bytes = self.alone_bytes.saturating_sub(size_bytes.unwrap_or(0));
            }
            None => {}
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.layers.values().map(|(size, _)| *size).fold(self.alone_bytes, u64::saturating_add)
    }
}
