//! `drover plan`: what would happen, host by host.

use drover_proto::view::PlanView;

use crate::{
    args::{ManifestArgs, Output},
    client::Client,
    cmd::load,
    fault::{Exit, Outcome},
    show,
};

/// Plans and prints.
pub async fn plan(args: &ManifestArgs, output: Output) -> Outcome {
    let loaded = load(args, output)?;
    let plan = Client::connect().await?.plan(&loaded.spec, loaded.extent()).await?;
    let environment = args.environment.as_ref().map(|e| e.as_str());
    show::document(output, &plan, |view| show::plan::text(view, &args.file, environment))?;
    Ok(exit(&plan.value))
}

/// 0 nothing to do, 2 changes, 1 when a host refuses or could not plan.
fn exit(view: &PlanView) -> Exit {
    if show::plan::tally(view).refused > 0 {
        Exit::Error
    } else if view.has_changes {
        Exit::Changes
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    //! The exit code of every kind of plan.
    use drover_proto::view::{HostPlan, HostPlanOutcome};

    use super::*;

    #[test]
    fn a_plan_ends_with_what_it_found() {
        let view = |has_changes, outcome| PlanView {
            plan_id: String::new(),
            app: "mono".parse().unwrap(),
            release: 1,
            has_changes,
            hosts: vec![HostPlan { host: "web-1".parse().unwrap(), outcome }],
            skipped: Default::default(),
        };
        let unknown = || HostPlanOutcome::Unknown("gone".to_owned());
        assert_eq!(exit(&view(true, unknown())), Exit::Changes);
        assert_eq!(exit(&view(false, unknown())), Exit::Done);
        assert_eq!(exit(&view(true, HostPlanOutcome::Error("disk full".to_owned()))), Exit::Error);
    }
}
