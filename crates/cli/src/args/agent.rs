//! The verbs of `hetuflow agent`.

use std::time::Duration;

use clap::{Args, Subcommand};
use hetuflow_core::{duration, fingerprint::Fingerprint, id::AgentId};

const TOKEN_HELP: &str = "\
Examples:
  hetuflow agent token --labels role=web site=fra
  hetuflow agent token --agent web-1          # a new key for an agent that is known
  hetuflow agent token --output json | jq -r .token

On the agent's host, before the token expires:
  1. the token into /etc/hetuflow/join-token, readable by the agent's user alone
  2. /etc/hetuflow/agent.toml:  [agent]
                                server_url = \"wss://SERVER:8081\"
                                join_token = { file = \"/etc/hetuflow/join-token\" }
  3. systemctl enable --now hetuflow-agent";

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// List agents: labels, slots, and whether they are connected.
    List,
    /// Show one agent with what it watches.
    Show { id: AgentId },
    /// Make a token with which one agent of another machine joins. It is shown once, and says which servers to trust.
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Take an agent's key back, for good: it is cut off within seconds. What it runs goes on there, and counts as lost once it
    /// stayed away for [agents] resume.
    Revoke { id: AgentId },
    /// Give an agent no more tasks, from now on and over its restarts: it ends what it runs, and watches files as before.
    Drain {
        id: AgentId,
        /// Give it tasks again.
        #[arg(long)]
        undo: bool,
        /// Return only when it runs nothing any more.
        #[arg(long, conflicts_with = "undo")]
        wait: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerVerb {
    /// List the keys that servers of this database had.
    List,
    /// Tell agents no more of a key, such as one that was stolen: those that are connected within seconds, others when they
    /// next reach a server that they know by another key. Stop the server that has it first: one that runs makes
    /// itself known again.
    Forget {
        /// As `hetuflow server list` shows it: sha256:..
        key: Fingerprint,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// What the agent has, and nothing else, whatever its host says: jobs that ask for labels run by these. Without them
    /// the agent's own configuration says its labels.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How long the token is good: an hour at most.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub expires: Duration,
    /// The only agent that may use it, by its [agent] id. When that one has a key already, the new one takes its place.
    #[arg(long, value_name = "ID")]
    pub agent: Option<AgentId>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write KEY=VALUE, such as role=web".to_owned()),
    }
}
