//! `hetuflow dev`: `up` with a newcomer's comforts. It makes the folders that triggers watch (below its data
//! directory) and the secrets that they name and the environment lacks, gives its agent the labels
//! that they ask for, reloads them as they change, and prints where everything is.

mod banner;
mod folders;
mod follow;
pub(crate) mod secrets;

use std::{
    fs::{DirBuilder, create_dir_all},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use hetuflow_server::Listeners;

use crate::{
    args::DevArgs,
    error::CliError,
    log,
    machine::{Machine, failed, stop_on_signal},
    output::Output,
};
use secrets::DevSecrets;

pub(crate) async fn run(args: DevArgs, output: Output) -> Result<(), CliError> {
    log::start("warn,hetuflow=info,hetuflow_server=info,hetuflow_agent=info,hetuflow_watch=info", false);
    let stop = stop_on_signal()?;
    prepare_folders(&args)?;
    let secrets = Arc::new(Mutex::new(DevSecrets::read(&args.data_dir)?));
    let server = server_config(&args, &secrets)?;
    let mut listeners = Listeners::bind(&server).await.map_err(|error| failed("cannot listen", &error))?;
    let own = listeners.own_agents().await.map_err(|error| failed("cannot listen", &error))?;
    let agent = agent_config(&args, &format!("ws://{own}"))?;
    // With its first hello: an agent that lacked a label for a moment would be told to forget what it watches.
    let mut machine = Machine::start(server, agent, listeners, |triggers, agent| {
        agent.labels = follow::wanted(triggers);
    })
    .await?;
    let follower = follow::Follower::new(&machine.server, args.data_dir.clone());
    follower.prepare().await;
    let following = tokio::spawn(follower.run());
    let ready = tokio::select! {
        ready = machine.ready() => Some(ready),
        () = stop.cancelled() => None,
    };
    match ready {
        Some(Ok(())) => {
            let made = secrets.lock().unwrap_or_else(PoisonError::into_inner).clone();
            banner::print(&machine.server, &args, &made, output)?;
        }
        Some(Err(error)) => {
            stop.cancel();
            return machine.run(stop).await.and(Err(error));
        }
        None => {}
    }
    let ended = machine.run(stop).await;
    following.abort();
    ended
}

/// The data directory is its owner's alone; the triggers folder is made so that a first file can be put there.
fn prepare_folders(args: &DevArgs) -> Result<(), CliError> {
    let cannot = |path: &Path| {
        let text = format!("cannot make {}", path.display());
        move |error| CliError::Io(text, error)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&args.data_dir).map_err(cannot(&args.data_dir))?;
    create_dir_all(&args.triggers).map_err(cannot(&args.triggers))
}

fn server_config(
    args: &DevArgs,
    secrets: &Arc<Mutex<DevSecrets>>,
) -> Result<hetuflow_server::Config, CliError> {
    let mut config =
        hetuflow_server::Config::read(None, &[]).map_err(|problems| CliError::Invalid(vec![problems]))?;
    config.server.http_port = args.http.into();
    config.server.websocket_port = args.agents.into();
    config.server.hook_port = args.hooks.into();
    config.database.url = match &args.database {
        Some(url) => url.clone(),
        None => format!("sqlite:{}", args.data_dir.join("hetuflow.db").display()),
    };
    config.tls.directory = args.data_dir.join("tls");
    config.triggers.directory = Some(args.triggers.clone());
    let secrets = Arc::clone(secrets);
    config.embedded.make_secret = Some(Arc::new(move |name| {
        let mut secrets = secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.ensure(name).map_err(|error| tracing::warn!(%error, "a secret could not be made")).ok()
    }));
    Ok(config)
}

fn agent_config(args: &DevArgs, server_url: &str) -> Result<hetuflow_agent::Config, CliError> {
    let data_dir = args
        .data_dir
        .canonicalize()
        .map_err(|error| CliError::Io(format!("cannot use {}", args.data_dir.display()), error))?;
    let mut config = hetuflow_agent::Config::new(data_dir.join("agent"), server_url)
        .map_err(|error| failed("the agent cannot run", &error))?;
    // What the examples watch lies directly in the data directory, where people find it.
    config.files.base = Some(data_dir);
    Ok(config)
}
