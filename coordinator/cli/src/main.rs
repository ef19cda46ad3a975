//! Starts the `drover` command: parse, run, and end with the exit code that scripts rely on.

use std::process::ExitCode;

use clap::Parser as _;
use drover_cli::{args::Cli, cmd, fault::Exit, show};

fn main() -> ExitCode {
    drover_proto::tls::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Not clap's own 2: `drover plan` says "there are changes" with that.
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Error } else { Exit::Done };
            return if error.print().is_ok() { exit.into() } else { Exit::Error.into() };
        }
    };
    let output = cli.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::fault(output, &error.into());
            return Exit::Error.into();
        }
    };
    let outcome = runtime.block_on(cmd::run(cli));
    // A read of the terminal that nobody answers must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(fault) => {
            show::fault(output, &fault);
            fault.exit.into()
        }
    }
}
