//! How a trigger's decision is shown, wherever one is: which clause held, what was there, what was wanted.

use hetuflow_core::event::{Clause, Decision, DecisionOutcome};

use crate::{
    error::CliError,
    output::{Output, Tone, plain},
};

/// The decision in a line, and a line for each clause of the trigger's `when`.
pub(super) fn print(output: Output, decision: &Decision) -> Result<(), CliError> {
    let revision = decision.revision.map(|revision| format!(" (revision {revision})")).unwrap_or_default();
    // The clauses say it, each for itself.
    let reason = decision.reason.as_deref().filter(|_| decision.clauses.is_empty());
    let reason = reason.map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    let word = word(output, decision.outcome);
    output.line(&format!("trigger {}{revision}  {word}{reason}", plain(&decision.trigger)))?;
    decision.clauses.iter().try_for_each(|clause| output.line(&line(output, clause)))
}

pub(super) fn word(output: Output, outcome: DecisionOutcome) -> String {
    match outcome {
        DecisionOutcome::Matched => output.tone("matched", Tone::Good),
        DecisionOutcome::NoMatch => output.tone("no match", Tone::Faint),
        DecisionOutcome::Skipped => output.tone("skipped", Tone::Faint),
        DecisionOutcome::TooCostly => output.tone("too costly", Tone::Bad),
        DecisionOutcome::Error => output.tone("error", Tone::Bad),
    }
}

fn line(output: Output, clause: &Clause) -> String {
    let sign = if clause.held { output.tone("+", Tone::Good) } else { output.tone("-", Tone::Bad) };
    let said = told(clause);
    let said =
        if said.is_empty() { said } else { format!("    {}", output.tone(&plain(&said), Tone::Faint)) };
    format!("  {sign} {}{said}", plain(&clause.text))
}

/// `body.ref is "dev", wanted == "main"`.
pub(super) fn told(clause: &Clause) -> String {
    let mut parts: Vec<String> =
        clause.found.iter().map(|(path, value)| format!("{path} is {value}")).collect();
    parts.extend(clause.wanted.iter().map(|wanted| format!("wanted {wanted}")));
    parts.extend(clause.problem.clone());
    parts.join(", ")
}
