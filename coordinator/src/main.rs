//! `drover-coordinator`: `run` hands over to `app`, the rest to `admin`.

use clap::Parser as _;
use drover_coordinator::{
    admin,
    alert::Alerting,
    app,
    args::{Args, Command, OperatorCommand},
    config::Config,
};

fn main() -> anyhow::Result<()> {
    drover_proto::tls::install();
    let args = Args::parse();
    let config = Config::read(&args.config)?;
    let dir = &config.state_dir;
    match args.command {
        Command::Run => {
            app::log_to_stderr(&config.log)?;
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all().build()?.block_on(app::run(config))?;
        }
        Command::CheckAlerting { file } => {
            let file = file.unwrap_or(config.alerting);
            println!("{}: {}", file.display(), Alerting::read(&file)?.summary());
        }
        Command::Operator(OperatorCommand::Add { name, ttl }) => {
            let token = admin::operator_add(dir, &name, ttl.as_duration())?;
            println!("{}", token.expose());
            let port = config.listen.port();
            eprintln!("For {name}, once, within {ttl}: drover login THIS-MACHINE:{port} --token -   (and paste it)");
        }
        Command::Ca(command) => println!("{}", admin::ca::run(dir, command)?),
        Command::Backup { file } => println!("{}", admin::backup(dir, &file)?),
        Command::Restore { file, force } => println!("{}", admin::restore(dir, &file, force)?),
    }
    Ok(())
}
