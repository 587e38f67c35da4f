//! What an error of the client means: for the caller, and for the lane it came from.
//!
//! Takes the client's error; gives a store error and, when the lane is to blame, its trouble. Never
//! repeats a command's arguments: Redis quotes them in some refusals, and they hold customers' text.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::error::StoreError;

/// Why a lane leaves the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No answer in time: ping it, replace it if that is not answered either.
    Silent,
    /// The connection is broken: replace it.
    Broken,
    /// The server cannot serve now (a replica, loading): replace it, by then it may be another.
    Unusable,
}

impl Trouble {
    /// The lane's part in an error; none when the lane is well.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => Some(Self::Silent),
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::Client => Some(Self::Broken),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved,
            )
            | ErrorKind::AuthenticationFailed => Some(Self::Unusable),
            _ => None,
        }
    }
}

/// The error as the rest of the gateway knows it.
pub(super) fn classify(error: &RedisError) -> StoreError {
    let text = describe(error);
    match (error.code(), Trouble::of(error)) {
        (Some("OOM" | "MISCONF"), _) => StoreError::OutOfSpace(text),
        (_, Some(_)) | (Some("BUSY" | "NOREPLICAS" | "NOAUTH" | "NOPERM" | "TRYAGAIN"), _) => {
            StoreError::Unavailable(text)
        }
        _ => StoreError::Corrupt(text),
    }
}

/// The error for people.
pub(super) fn describe(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => {
            // "unknown command 'X', with args beginning with: ..."
            let detail = detail.split(", with args").next().unwrap_or_default();
            format!("{code} {detail}")
        }
        (Some(code), None) => code.to_owned(),
        (None, _) if error.is_io_error() => error.to_string(),
        (None, _) => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn the_arguments_that_redis_quotes_are_left_out() {
        let detail = "unknown command 'EVALSHA', with args beginning with: 'f00' 'a text'";
        let error = make_extension_error("ERR".to_owned(), Some(detail.to_owned()));
        assert_eq!(describe(&error), "ERR unknown command 'EVALSHA'");
    }

    #[test]
    fn out_of_memory_is_no_trouble_of_the_lane() {
        let error = make_extension_error("OOM".to_owned(), Some("command not allowed".to_owned()));
        assert_eq!(Trouble::of(&error), None);
        assert!(matches!(classify(&error), StoreError::OutOfSpace(_)));
    }

    #[test]
    fn a_silence_is_told_from_a_break() {
        let silent = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(Trouble::of(&silent), Some(Trouble::Silent));
        assert_eq!(Trouble::of(&broken), Some(Trouble::Broken));
    }
}
