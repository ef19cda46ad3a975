//! `drover status` and `drover why`.

use drover_proto::name::AppName;

use crate::{
    args::Output,
    client::Client,
    fault::{Exit, Outcome},
    show,
};

/// Every app, or one part by part.
pub async fn status(app: Option<&AppName>, output: Output) -> Outcome {
    let status = Client::connect().await?.status(app).await?;
    show::document(output, &status, |apps| show::status::text(apps, app.is_some()))?;
    Ok(Exit::Done)
}

/// The story of a host.
pub async fn why(host: &str, app: Option<&AppName>, output: Output) -> Outcome {
    let detail = Client::connect().await?.host(host).await?;
    show::document(output, &detail, |detail| show::why::text(detail, app, show::time::now_ms()))?;
    Ok(Exit::Done)
}
