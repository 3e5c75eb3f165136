//! What an error met while reading means: that something was found, or that nothing can be said.

use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};

/// What was read, or what was found in its place; an error if it could not be read at all.
pub(super) fn judge<T>(read: Result<T>) -> Result<Result<T, Finding>> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Corrupt { path, position, detail }) => {
            Ok(Err(Finding::new(FindingKind::Damaged, path, position, detail)))
        }
        Err(Error::UnsupportedVersion { path, found, supported }) => {
            let detail = format!("version {found}, up to {supported} is known here");
            Ok(Err(Finding::new(FindingKind::UnsupportedVersion, path, 0, detail)))
        }
        Err(error) => Err(error),
    }
}
