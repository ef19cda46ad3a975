//! The verbs that need no coordinator: `validate`, `schema`, `completion`, `man`.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use drover_proto::{app::AppSpec, code::Code};

use crate::{
    args::{Cli, ManifestArgs, Output},
    cmd::load,
    fault::{Exit, Fault, Outcome},
    manifest, show,
};

/// Why there is no `drover exec`.
pub fn exec() -> Fault {
    let message = "there is no `drover exec`: it would be a root shell on every host for whoever holds an operator's key, beside \
                   everything that plan, gate and audit say";
    Fault::new(Code::Invalid, message)
        .hint("use ssh for what a person does by hand; a hook, a unit or a check for what should stay")
}

/// Checks a manifest.
pub fn validate(args: &ManifestArgs, output: Output) -> Outcome {
    let loaded = load(args, output)?;
    match output {
        Output::Json => show::json(&loaded.spec)?,
        Output::Table => show::print(&format!("{}: {}\n", args.file.display(), contents(&loaded.spec)))?,
    }
    Ok(Exit::Done)
}

/// `mono is good: 2 units, 3 files, 1 check, an artifact`.
fn contents(spec: &AppSpec) -> String {
    let mut parts = vec![
        show::count(spec.units.len(), "unit"),
        show::count(spec.files.len(), "file"),
        show::count(spec.hooks.len(), "hook"),
        show::count(spec.checks.len(), "check"),
    ];
    if let Some(artifact) = &spec.artifact {
        parts.push(match artifact.source.is_pushed() {
            true => format!("an artifact of {}", show::plan::size(artifact.size_bytes)),
            false => format!("an artifact from {}", artifact.source),
        });
    }
    format!("{} is good: {}", spec.app, parts.join(", "))
}

/// Prints the manifest's JSON Schema.
pub fn schema() -> Outcome {
    show::json(&manifest::schema())?;
    Ok(Exit::Done)
}

/// Prints a shell's completion script.
pub fn completion(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "drover", &mut script);
    show::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Writes `drover.1`, `drover-apply.1` …
pub fn man(directory: &Path) -> Outcome {
    let cannot = |e: std::io::Error| Fault::io(format_args!("cannot write man pages to {}", directory.display()), &e);
    fs::create_dir_all(directory).map_err(cannot)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(cannot)?;
    Ok(Exit::Done)
}
