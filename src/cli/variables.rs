//! Values of the environment: an error about one of them names its variable.

use crate::cli::args::CommandLine;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// The same error, under the name of the variable where the value came from one.
pub(crate) fn name(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let mut command = CommandLine::command();
    command.build();
    let variables: Vec<(String, &str, OsString)> = std::iter::once(&command)
        .chain(command.get_subcommands())
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| {
            let name = argument.get_env()?.to_str()?;
            Some((argument.to_string(), name, std::env::var_os(name)?))
        })
        .collect();
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some((_, name, _)) = variables.iter().find(|(.., value)| value.to_str().is_none())
    {
        return CommandLine::command()
            .error(ErrorKind::InvalidUtf8, format!("the environment variable {name} holds bytes that are not text"));
    }
    let (Some(ContextValue::String(shown)), Some(ContextValue::String(invalid))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return error;
    };
    let is_typed = arguments.iter().any(|argument| argument.to_string_lossy().ends_with(invalid.as_str()));
    let variable =
        variables.iter().find(|(argument, _, value)| argument == shown && value.to_string_lossy() == *invalid);
    if let (Some((_, name, _)), false) = (variable, is_typed && !invalid.is_empty()) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{name} (an environment variable)")));
    }
    error
}
