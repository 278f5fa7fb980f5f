//! The `haul` command.
#![warn(clippy::cast_possible_truncation, clippy::unwrap_used)]

mod cli;

fn main() {
    cli::run().end_process();
}
