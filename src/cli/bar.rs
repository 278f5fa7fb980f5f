//! The moving line of progress on a terminal.

use crate::cli::view::REDRAWS_PER_SECOND;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A bar with a line about all and, where `file` says anything, one about a file.
pub(crate) fn new_bar(total: String, file: String) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
    let style = bar_style(!file.is_empty());
    let bar = ProgressBar::with_draw_target(None, target).with_prefix(total).with_message(file);
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND) * 2);
    bar
}

/// How a bar looks that has one line, or two.
pub(crate) fn bar_style(is_tall: bool) -> ProgressStyle {
    let template = if is_tall { "{spinner} {prefix}\n{msg}" } else { "{spinner} {prefix}" };
    ProgressStyle::with_template(template).expect("the template is well formed").tick_chars("|/-\\ ")
}
