//! Halt: the one way out of a reconcile before its end. A plain value.

use thiserror::Error;

use crate::reconcile::apply::ApplyError;
use crate::reconcile::blocked::Blocked;
use crate::reconcile::build::BuildError;
use crate::reconcile::read::ReadError;
use crate::reconcile::report::ReportError;

/// Why a reconcile ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// Nothing may be written until somebody acts.
    Blocked(Blocked),
    /// Something failed; it is tried again.
    Failed(ReconcileError),
}

/// Why a reconcile failed.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The route could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The route could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Not everything could be reported.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Why nothing may be done could not be told on the channel.
    #[error("the status of the channel is not answered within {seconds} s")]
    Untold {
        /// How long it may take.
        seconds: u64,
    },
    /// A bug.
    #[error("the reconcile panicked, which is a bug of the operator; its log says where")]
    Panicked,
    /// It took too long.
    #[error("the reconcile did not end within {seconds} s")]
    Timeout {
        /// Its limit.
        seconds: u64,
    },
}

impl ReconcileError {
    /// Its word in metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Build(_) => "build",
            Self::Apply(_) => "apply",
            Self::Report(_) | Self::Untold { .. } => "report",
            Self::Panicked => "panicked",
            Self::Timeout { .. } => "timeout",
        }
    }
}

impl From<ReadError> for Halt {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<BuildError> for Halt {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Credentials(problem) => Self::Blocked(Blocked::by_secrets(problem)),
            BuildError::Memory(_)
            | BuildError::Json(_)
            | BuildError::TooLarge(_)
            | BuildError::NoRoute => Self::Failed(error.into()),
        }
    }
}

impl From<ApplyError> for Halt {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ReportError> for Halt {
    fn from(error: ReportError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Blocked> for Halt {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}
