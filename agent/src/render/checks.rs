//! Checks with every hole filled, and what they restart, by the names that it has on this host. Part of `render`.

use std::collections::BTreeMap;

use drover_proto::{
    app::{Check, Probe, RestartOf},
    name::{CheckName, ContainerName},
};

use super::{Instance, RenderError, fill::Filler};
use crate::check::{RenderedCheck, RenderedHttp, RenderedProbe, standing::Rules};

impl Filler<'_> {
    pub(super) fn checks(&self) -> Result<BTreeMap<CheckName, RenderedCheck>, RenderError> {
        let mut checks = BTreeMap::new();
        for (name, check) in &self.desired.spec.checks {
            let probe = self.probe(&format!("checks.{name}"), &check.probe)?;
            let parts = if check.start_period.as_ms() > 0 { self.parts_that_start()? } else { Vec::new() };
            let (restart, budget) = self.restarted(check)?;
            let rendered = RenderedCheck {
                probe,
                interval: check.interval,
                timeout: check.timeout,
                rules: Rules { rise: check.rise, fall: check.fall },
                start_period: check.start_period,
                parts,
                restart,
                budget: budget.into(),
            };
            checks.insert(name.clone(), rendered);
        }
        Ok(checks)
    }

    fn probe(&self, field: &str, probe: &Probe) -> Result<RenderedProbe, RenderError> {
        Ok(match probe {
            Probe::Http(http) => {
                let mut headers = BTreeMap::new();
                for (header, value) in &http.headers {
                    headers.insert(header.clone(), self.fill(field, value)?);
                }
                RenderedProbe::Http(RenderedHttp {
                    url: self.fill(field, &http.url)?,
                    method: http.method.clone(),
                    headers,
                    status: http.status,
                    expect_headers: http.expect_headers.clone(),
                    body_contains: http.body_contains.clone(),
                    json: http.json.clone(),
                })
            }
            Probe::Tcp(address) => RenderedProbe::Tcp(address.clone()),
            Probe::Command { run, user } => RenderedProbe::Command { run: self.argv(field, run)?, user: user.clone() },
            Probe::Unit(unit) => RenderedProbe::Unit(self.runs_as(unit)?),
            Probe::Container(name) => RenderedProbe::Container(self.container_here(name)?),
            Probe::Certificate(certificate) => RenderedProbe::Certificate(certificate.clone()),
            Probe::File(file) => RenderedProbe::File(file.clone()),
            Probe::Disk(disk) => RenderedProbe::Disk(disk.clone()),
        })
    }

    fn container_here(&self, name: &ContainerName) -> Result<ContainerName, RenderError> {
        match self.desired.spec.containers.get(name) {
            Some(own) => Ok(self.instance_of_container(name, own)?.0),
            None => Ok(name.clone()),
        }
    }

    /// What begins anew when it is restarted.
    fn parts_that_start(&self) -> Result<Vec<Instance>, RenderError> {
        let spec = &self.desired.spec;
        let mut parts = Vec::new();
        for name in spec.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name) {
            parts.extend(self.running_of(name).into_iter().filter(|unit| !unit.is_template()).map(Instance::Unit));
        }
        for name in spec.containers.keys() {
            parts.push(Instance::Container(self.container_here(name)?));
        }
        Ok(parts)
    }

    fn restarted(&self, check: &Check) -> Result<(Option<Instance>, drover_proto::app::RestartBudget), RenderError> {
        let spec = &self.desired.spec;
        let of_app = spec.restart_budget.unwrap_or_default();
        Ok(match &check.restart {
            None => (None, of_app),
            Some(RestartOf::Container(name)) => (Some(Instance::Container(self.container_here(name)?)), of_app),
            Some(RestartOf::Unit(name)) => {
                let own = spec.units.iter().find(|(of, unit)| *of == name || unit.runs_as(of).contains(name));
                let budget = own.and_then(|(_, unit)| unit.restart_budget).unwrap_or(of_app);
                (Some(Instance::Unit(self.runs_as(name)?)), budget)
            }
        })
    }
}
