//! `outrider webhook`: what the API server of a cluster asks about each pod.

use std::process::ExitCode;

use super::run::log_to_stderr;
use crate::{
    kubernetes::settings::Settings,
    webhook::{Place, Webhook},
};

/// Add the sidecar to pods as a cluster's admission webhook
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The API server asks /mutate and /validate by HTTPS (AdmissionReview v1). What it needs to do so \
is in deploy/kubernetes and deploy/helm. Probes and metrics are on an address of their own. SIGTERM drains. \
OUTRIDER_LOG sets what is logged on standard error."
)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    settings: Settings,
    /// Refuse pods that are labelled `outrider.dev/inject: disabled`
    #[arg(long)]
    require: bool,
    /// Print where it listens as one line of JSON on standard output; log as JSON
    #[arg(long)]
    json: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When nothing could be started.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    log_to_stderr(args.json);
    let webhook = Webhook::open(args.place, args.settings, args.require)?;
    let (address, probe) = webhook.addresses()?;
    if args.json {
        let places =
            serde_json::json!({ "address": address.to_string(), "probe": probe.to_string() });
        println!("{places}");
    } else {
        eprintln!("outrider webhook");
        eprintln!("  reviews   https://{address}/mutate  /validate");
        eprintln!("  probes    http://{probe}/livez  /readyz  /metrics");
    }
    webhook.run();
    Ok(ExitCode::SUCCESS)
}
