//! `drover-coordinator`: `run` hands over to `app`, the rest to `admin`.

use clap::Parser as _;
use drover_coordinator::{
    admin, app,
    args::{Args, Command, OperatorCommand},
    config::Config,
};

fn main() -> anyhow::Result<()> {
    drover_proto::tls::install();
    let args = Args::parse();
    let config = Config::read(&args.config)?;
    let dir = &config.state_dir;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Command::Run => {
            app::log_to_stderr(&config.log)?;
            runtime.block_on(app::run(config))?;
        }
        Command::Operator(OperatorCommand::Add { name, ttl }) => {
            let token = runtime.block_on(admin::operator_add(dir, &name, ttl.as_duration()))?;
            println!("{}", token.expose());
            let port = config.listen.port();
            eprintln!("For {name}, once, within {ttl}: drover login THIS-MACHINE:{port} --token -   (and paste it)");
        }
        Command::Backup { file } => println!("{}", runtime.block_on(admin::backup(dir, &file))?),
        Command::Restore { file, force } => println!("{}", runtime.block_on(admin::restore(dir, &file, force))?),
    }
    Ok(())
}
