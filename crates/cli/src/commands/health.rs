//! `hetuflow health`

use serde_json::Value;

use crate::{
    client::Client,
    error::CliError,
    output::{Output, Tone, plain},
};

pub(crate) async fn run(client: &Client, output: Output) -> Result<(), CliError> {
    let (status, answer): (u16, Value) = client.any_status("system/health").await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        let word = answer.get("status").and_then(Value::as_str).unwrap_or("unknown");
        let tone = if status == 200 && word == "ok" { Tone::Good } else { Tone::Bad };
        output.line(&output.tone(word, tone))?;
        if let Some(leader) = answer.get("leader") {
            output.line(&format!("  {}", leads(leader)))?;
        }
        for reason in answer.get("reasons").and_then(Value::as_array).into_iter().flatten() {
            for line in reason.as_str().unwrap_or("?").lines() {
                output.line(&format!("  {}", plain(line)))?;
            }
        }
    }
    if status == 200 {
        Ok(())
    } else {
        Err(CliError::Failed(format!("the server is not healthy ({status})")))
    }
}

fn leads(leader: &Value) -> String {
    if leader.is_null() {
        return "no server leads at this moment".to_owned();
    }
    let epoch = leader["epoch"].as_i64().unwrap_or_default();
    if leader["this_server"] == true {
        return format!("this server leads (epoch {epoch})");
    }
    format!("server {} leads (epoch {epoch})", plain(leader["server_id"].as_str().unwrap_or("?")))
}
