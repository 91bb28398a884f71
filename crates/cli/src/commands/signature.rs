//! `hetuflow signature ..`

use std::path::Path;

use hetuflow_signature::{Scheme, vector};

use crate::{
    args::SignatureVerb,
    error::CliError,
    output::{Output, Tone, plain},
};

pub(crate) fn run(verb: SignatureVerb, output: Output) -> Result<(), CliError> {
    match verb {
        SignatureVerb::List => Scheme::names().into_iter().try_for_each(|name| output.line(name)),
        SignatureVerb::Test { file } => test(&file, output),
    }
}

fn test(file: &Path, output: Output) -> Result<(), CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| CliError::Read { path: file.to_path_buf(), source })?;
    let results = if file.extension().is_some_and(|extension| extension == "json") {
        vector::run(&text)
    } else {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        vector::run_scheme(&name, &text)
    };
    let results = results.map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    if results.is_empty() {
        let message =
            "no vectors, so nothing is proven: add [[vector]] with id, headers, body, secret and expect";
        return Err(CliError::Failed(format!("{}: {message}", file.display())));
    }
    let differing = results.iter().filter(|row| !row.ok).count();
    for row in &results {
        let word = if row.ok { output.tone("ok", Tone::Good) } else { output.tone("DIFFERS", Tone::Bad) };
        output.line(&format!("{}  {word}  {}", plain(&row.id), plain(&row.detail)))?;
    }
    match differing {
        0 => Ok(()),
        _ => Err(CliError::Failed(format!("{differing} of {} rows differ", results.len()))),
    }
}
