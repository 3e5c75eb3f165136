//! What is tried again: a pure decision about an error and how often there was one.

use crate::error::Error;

/// Whether what failed so may succeed when it is tried again, having changed nothing.
pub(super) fn is_transient(error: &Error) -> bool {
    error.is_full() || matches!(error, Error::NotSynced { .. } | Error::Io { .. })
}

/// Whether a batch is tried again that has failed `failures` times, with `error` at last.
pub(super) fn is_tried_again(error: &Error, failures: u32, retries: u32, is_closing: bool) -> bool {
    is_transient(error) && failures <= retries && !is_closing
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_so_often() {
        let full = Error::StorageFull { path: Path::new("d").to_path_buf(), bytes: 1 };
        assert!(is_tried_again(&full, 1, 1, false));
        assert!(!is_tried_again(&full, 2, 1, false), "as often as was said");
        assert!(!is_tried_again(&full, 1, 0, false));
        assert!(!is_tried_again(&full, 1, 9, true), "nobody has the time");
        assert!(!is_tried_again(&Error::Closed, 1, 9, false));
        let deleted = Error::UnknownTopic { topic: "t".to_owned() };
        assert!(!is_tried_again(&deleted, 1, 9, false));
    }
}
