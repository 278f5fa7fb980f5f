//! What sets the views of single commands apart.

use super::View;
use crate::cli::qr;

impl View {
    /// The same view, which shows the QR code of its link as well.
    pub(crate) fn with_qr(self, qr: qr::Wish) -> Self {
        Self { qr, ..self }
    }

    /// The same view, of a sender that a code alone may not lead to.
    pub(crate) fn with_announcement(self, is_announced: bool) -> Self {
        Self { is_unannounced: !is_announced, ..self }
    }

    /// The same view, of a sender that reads its input first: a program is told how far it is.
    pub(crate) fn with_spool(self, is_spooled: bool) -> Self {
        if let Some(events) = self.state().events.as_mut().filter(|_| is_spooled) {
            events.hold_nothing();
        }
        self
    }

    /// The same view, of a run that only says what would happen.
    pub(crate) fn with_dry_run(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }
}
